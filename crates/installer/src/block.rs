//! Our lines in a file that is another's: put in at its end, and taken out so that it is what it was, byte for byte.

/// The line before ours.
const BEGIN: &str =
    "# BEGIN handlers of berth installer: taken out again when they are gone; do not change\n";
/// The line after.
const END: &str = "# END handlers of berth installer\n";
/// The first line of a file that is ours as a whole.
pub const OWNER: &str = "# This file belongs to berth installer, which changes and removes it.\n";

/// Why a file with our lines can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Somebody has removed one of the two lines, or doubled one.
    #[error(
        "its lines of berth installer don't have one beginning and one end: remove them by hand"
    )]
    Torn,
}

/// A file in two: what is its owner's, and our lines.
///
/// # Errors
/// When our lines are not whole.
pub fn split(text: &str) -> Result<(String, Option<&str>), BlockError> {
    let begins = text.matches(BEGIN).count();
    let ends = text.matches(END).count();
    match (begins, ends) {
        (0, 0) => return Ok((text.to_owned(), None)),
        (1, 1) => {}
        _ => return Err(BlockError::Torn),
    }
    let torn = || BlockError::Torn;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(torn)?;
    let (lines, after) = rest.split_once(END).ok_or_else(torn)?;
    // The line break before it is ours.
    let before = before.strip_suffix('\n').ok_or_else(torn)?;
    Ok((format!("{before}{after}"), Some(lines)))
}

/// The owner's text with our lines after it.
#[must_use]
pub fn join(owners: &str, lines: &str) -> String {
    format!("{owners}\n{BEGIN}{lines}{END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_was_when_our_lines_are_gone() {
        for owners in [
            "",
            "\n",
            "a = 1",
            "a = 1\n",
            "a = 1\r\n",
            "[x]\n\n\n",
            "# ünicode",
        ] {
            let with = join(owners, "[y]\n");
            assert_eq!(
                split(&with),
                Ok((owners.to_owned(), Some("[y]\n"))),
                "{owners:?}"
            );
            // What others write behind our lines stays.
            assert_eq!(
                split(&format!("{with}z = 1\n")),
                Ok((format!("{owners}z = 1\n"), Some("[y]\n")))
            );
            assert_eq!(split(owners), Ok((owners.to_owned(), None)));
        }
    }

    #[test]
    fn torn_lines_are_refused() {
        let with = join("a = 1\n", "b = 1\n");
        for torn in [
            with.replace(BEGIN, ""),
            with.replace(END, ""),
            format!("{with}{with}"),
            format!("{END}{BEGIN}"),
        ] {
            assert_eq!(split(&torn), Err(BlockError::Torn), "{torn}");
        }
    }
}
