//! What is said of a failure: libcontainer's errors wrap each other, and lose the cause on the way from the container's
//! first process; the cause is in the log then.

/// Wrappings of libcontainer's, and what they say.
const WRAPPINGS: [(&str, &str); 5] = [
    (
        "failed to create container: exec process failed with error ",
        STARTING,
    ),
    (
        "failed to create container: intermediate process error ",
        STARTING,
    ),
    ("exec process failed with error ", STARTING),
    ("intermediate process error ", STARTING),
    ("error in executing process : ", ""),
];
/// runc's words.
const STARTING: &str = "unable to start container process: ";

/// Lines of libcontainer's that only wrap what was said before.
const WRAPPED: [&str; 3] = [
    "failed to initialize container process",
    "failed to wait for init ready",
    "failed to run container process",
];

/// Without wrappings.
pub(crate) fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (wrapping, meaning) in WRAPPINGS {
        text = text.replacen(wrapping, meaning, 1);
    }
    text
}

/// Adds a cause, of which the end of `text` may say something already.
pub(crate) fn add(text: &mut String, cause: &str) {
    if cause.is_empty() || text.contains(cause) {
        return;
    }
    let ends = text.match_indices(": ").map(|(at, mark)| at + mark.len());
    let told = ends
        .map(|at| &text[at..])
        .find(|end| cause.starts_with(end));
    match told.map(str::len) {
        Some(told) => text.push_str(&cause[told..]),
        None => {
            text.push_str(": ");
            text.push_str(cause);
        }
    }
}

/// The first reason in a log of JSON lines.
pub(crate) fn first_reason(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let message = line["msg"].as_str().filter(|_| line["level"] == "error")?;
        let wraps = WRAPPED.iter().any(|wrapped| message.starts_with(wrapped));
        (!wraps).then(|| message.to_owned())
    })
}

/// An error's debug form, for people: the number's name or the system's words, where it is one of those.
pub(crate) fn of_debug(debug: &str) -> String {
    if let Some((_, rest)) = debug.split_once("message: \"")
        && let Some((words, _)) = rest.split_once('"')
    {
        return words.to_owned();
    }
    let simple = |c: char| c.is_ascii_alphanumeric() || "_()".contains(c);
    let name = debug.trim_end_matches(')').rsplit('(').next();
    let number = |name: &&str| {
        let mut letters = name.chars();
        letters.next() == Some('E') && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    match name.filter(number) {
        Some(name) if debug.chars().all(simple) => name.to_owned(),
        Some(_) | None => debug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once() {
        for (text, want) in [
            (
                "cannot create container \"x\": failed to create container: exec process failed with error error in executing process : exec: \"/no\": stat /no: no such file or directory",
                "cannot create container \"x\": unable to start container process: exec: \"/no\": stat /no: no such file or directory",
            ),
            (
                "cannot create container \"x\": failed to create container: intermediate process error cgroup error: unable to set memory limit",
                "cannot create container \"x\": unable to start container process: cgroup error: unable to set memory limit",
            ),
            (
                "container \"x\" does not exist",
                "container \"x\" does not exist",
            ),
        ] {
            assert_eq!(plain(text), want);
        }
        for (text, cause, want) in [
            (
                "a: failed to set hostname",
                "failed to set hostname: EINVAL",
                "a: failed to set hostname: EINVAL",
            ),
            ("a: b", "b", "a: b"),
            ("a: b", "a", "a: b"),
            ("a", "b", "a: b"),
            ("a", "", "a"),
            ("a: b: c", "b: c: d", "a: b: c: d"),
        ] {
            let mut told = text.to_owned();
            add(&mut told, cause);
            assert_eq!(told, want);
        }
    }

    #[test]
    fn the_cause_is_what_the_log_says_first() {
        let line =
            |level: &str, text: &str| format!("{{\"level\":\"{level}\",\"msg\":\"{text}\"}}\n");
        let log = line("debug", "begins")
            + &line("error", "failed to initialize container process: x")
            + &line("error", "failed to chdir: ENOTDIR")
            + &line("error", "later");
        assert_eq!(first_reason(&log).unwrap(), "failed to chdir: ENOTDIR");
        assert_eq!(first_reason("no JSON\n"), None);
    }

    #[test]
    fn debug_forms_become_words() {
        for (debug, want) in [
            ("ENOTDIR", "ENOTDIR"),
            ("Nix(EINVAL)", "EINVAL"),
            (
                "Mount(Io(Os { code: 2, kind: NotFound, message: \"No such file or directory\" }))",
                "No such file or directory",
            ),
            ("Other(\"E: no\")", "Other(\"E: no\")"),
            ("Else", "Else"),
            ("", ""),
        ] {
            assert_eq!(of_debug(debug), want);
        }
    }
}
