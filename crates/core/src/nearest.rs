//! Names that somebody probably meant.

/// The known name that a name was probably meant to be: one of a letter or two less, more or in another place.
#[must_use]
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A request may bring names of any length; none that long is anybody's.
    const LONGEST: usize = 253;
    if name.len() < 3 || name.len() > LONGEST {
        return None;
    }
    let most = (name.len() / 4).clamp(1, 3);
    let near = known
        .into_iter()
        .filter(|known| *known != name && known.len().abs_diff(name.len()) <= most)
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(distance, _)| *distance <= most);
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

/// `; did you mean "NAME"?`, or nothing.
#[must_use]
pub fn did_you_mean(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let known = ["gvisor", "kata", "kata-qemu", "runc", "crun"];
        for (name, meant) in [
            ("gvsor", Some("gvisor")),
            ("gvisro", Some("gvisor")),
            ("katta", Some("kata")),
            ("kata-qmeu", Some("kata-qemu")),
            ("rnuc", Some("runc")),
            ("runc", None),
            ("kats", Some("kata")),
            ("wasm", None),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(
            nearest("runcs", ["runc", "runsc"]),
            None,
            "it may be either"
        );
        assert_eq!(nearest(&"a".repeat(4096), known), None);
        assert_eq!(did_you_mean(Some("a")), "; did you mean \"a\"?");
        assert_eq!(did_you_mean(None), "");
    }
}
