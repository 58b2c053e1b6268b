//! The command line of containerd's shims: Go's flags, with one dash or two.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Start the daemon and print its address.
    Start,
    /// Clean up after a daemon that died.
    Delete,
    /// Start a keeper of a stranger's streams and print its address.
    Keep,
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) namespace: String,
    pub(super) id: String,
    pub(super) bundle: Option<PathBuf>,
    pub(super) debug: bool,
    pub(super) action: Action,
}

/// Parses what follows `berth shim`.
pub(super) fn parse(args: Vec<OsString>) -> Result<Args, String> {
    let mut out = Args {
        namespace: "default".to_owned(),
        id: String::new(),
        bundle: None,
        debug: false,
        action: Action::Start,
    };
    let mut action = None;
    let mut args = args.into_iter().map(|a| a.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            action = Some(match arg.as_str() {
                "start" => Action::Start,
                "delete" => Action::Delete,
                "keep" => Action::Keep,
                other => {
                    return Err(format!(
                        "unknown action {other:?}: it is start, delete or keep"
                    ));
                }
            });
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if name == "debug" {
            out.debug = inline.as_deref() != Some("false");
            continue;
        }
        let value = inline
            .or_else(|| args.next())
            .ok_or_else(|| format!("flag -{name} needs a value"))?;
        match name {
            "namespace" => out.namespace = value,
            "id" => out.id = value,
            "bundle" => out.bundle = Some(PathBuf::from(value)),
            // Events are not published: whoever drives the shim learns of exits by Wait.
            "address" | "publish-binary" | "socket" => {}
            other => return Err(format!("unknown flag -{other}")),
        }
    }
    out.action = action.ok_or("no action: start, delete or keep")?;
    if out.id.is_empty() || out.id.contains('/') || out.id.starts_with('.') {
        return Err(format!("-id {:?} is not a container's id", out.id));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Args, String> {
        parse(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn flags_in_all_spellings() {
        let args = of(&[
            "-namespace",
            "k8s.io",
            "--id=abc",
            "-debug",
            "-bundle",
            "/b",
            "delete",
        ])
        .expect("valid");
        assert_eq!(
            (args.namespace.as_str(), args.id.as_str()),
            ("k8s.io", "abc")
        );
        assert!(args.debug);
        assert_eq!(args.action, Action::Delete);
        for wrong in [
            &["-id", "x"][..],
            &["-id", "a/b", "start"],
            &["start"],
            &["-id", "x", "-what", "y", "start"],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
