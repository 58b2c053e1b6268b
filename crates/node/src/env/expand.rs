//! `$(NAME)` expansion as Kubernetes defines it: `$$` is a dollar, unknown names stay as written.
//!
//! A few hundred bytes of references to each other can stand for more text than there is memory, so all expansions of a
//! container share a [`Room`].

/// Linux starts no program whose arguments and environment have more bytes (three quarters of the least stack).
const MOST_BYTES: usize = 6 << 20;

/// There would be more text than a program can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} bytes once all $(NAME) are expanded")]
pub(crate) struct TooLarge(usize);

/// How much text may still come about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    left: usize,
    all: usize,
}

impl Room {
    /// For the environment of a container, or for its command and arguments.
    pub(crate) fn of_program() -> Self {
        Self::of(MOST_BYTES)
    }

    /// For so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self {
            left: bytes,
            all: bytes,
        }
    }

    /// Takes some.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLarge(self.all))?;
        Ok(())
    }

    /// Gives some back, of text that is no longer needed.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(self.all);
    }
}

/// Expands every reference that `lookup` knows; takes what comes about from the room.
pub(crate) fn expand<'a>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'a str>,
    room: &mut Room,
) -> Result<String, TooLarge> {
    let mut out = String::new();
    let mut add = |piece: &str| {
        room.take(piece.len())?;
        out.push_str(piece);
        Ok::<_, TooLarge>(())
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        add(&rest[..at])?;
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            add("$")?;
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('(') {
            match tail.find(')') {
                Some(end) => {
                    let name = &tail[..end];
                    match lookup(name) {
                        Some(value) => add(value)?,
                        None => add(&rest[at..at + end + 3])?,
                    }
                    rest = &tail[end + 1..];
                }
                None => {
                    // Nor is there one further on.
                    add(&rest[at..])?;
                    return Ok(out);
                }
            }
        } else {
            add("$")?;
            rest = after;
        }
    }
    add(rest)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Room, TooLarge, expand};

    #[test]
    fn table() {
        let lookup = |name: &str| match name {
            "A" => Some("one"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (input, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "one"),
            ("x-$(A)-y", "x-one-y"),
            ("$(A)$(A)", "oneone"),
            ("$(EMPTY)|", "|"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$(A$(A) $$", "$(A$(A) $"),
            ("$(B $$", "$(B $$"),
            ("end$", "end$"),
            ("äö$(A)ü", "äöoneü"),
        ] {
            let mut room = Room::of_program();
            let got = expand(input, lookup, &mut room);
            assert_eq!(got.as_deref(), Ok(want), "{input}");
        }
    }

    #[test]
    fn there_is_no_more_text_than_room() {
        let long = "x".repeat(1000);
        let lookup = |_: &str| Some(long.as_str());
        let mut room = Room::of(3000);
        assert_eq!(expand("$(A)$(A)", lookup, &mut room).unwrap().len(), 2000);
        assert_eq!(expand("$(A)$(A)", lookup, &mut room), Err(TooLarge(3000)));
        room.give(5000);
        assert!(expand("$(A)$(A)$(A)", lookup, &mut room).is_ok());
    }
}
