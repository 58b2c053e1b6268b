//! Names that somebody probably meant.

/// The known name that a name was probably meant to be: it differs by a letter or two, or only by how words are put together
/// (`binary_name`, `BinaryName`).
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let wanted = plain(name);
    // Two short names have little in common by chance.
    let most = (wanted.len() / 4).clamp(1, 2);
    let near = known
        .into_iter()
        .filter(|known| *known != name)
        .map(|known| (strsim::osa_distance(&wanted, &plain(known)), known))
        .filter(|(distance, _)| *distance <= most && wanted.len() > 2);
    let mut near: Vec<(usize, &str)> = near.collect();
    near.sort_unstable();
    near.dedup();
    match near.as_slice() {
        [] => None,
        // Of two that are as near nobody knows which.
        [(first, _), (second, _), ..] if first == second => None,
        [(_, meant), ..] => Some(*meant),
    }
}

/// Usual names of handlers: they are much alike, and stand for different runtimes.
const RUNTIMES: [&str; 8] = [
    "runc", "crun", "runsc", "youki", "gvisor", "kata", "berth", "nvidia",
];

/// [`hint`] for a handler's name. One of the usual names is no misspelling of another.
pub(super) fn handler_hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    if RUNTIMES.contains(&name) {
        return String::new();
    }
    hint(name, known)
}

/// `; did you mean "NAME"?`, or nothing.
pub(super) fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(name, known).map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let known = ["BinaryName", "ConfigPath", "runc", "crun", "runsc"];
        for (name, meant) in [
            ("binary_name", Some("BinaryName")),
            ("BinaryNmae", Some("BinaryName")),
            ("config-path", Some("ConfigPath")),
            ("runsv", Some("runsc")),
            ("runcs", None),
            ("kata", None),
            ("x", None),
            ("runc", None),
        ] {
            let got = nearest(name, known).filter(|_| !known.contains(&name));
            assert_eq!(got, meant, "{name}");
        }
        assert_eq!(handler_hint("runsc", ["runc"]), "");
        assert_eq!(
            handler_hint("runcs", ["runsc"]),
            "; did you mean \"runsc\"?"
        );
    }
}
