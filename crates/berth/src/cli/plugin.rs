//! `kubectl berth`: the same commands below kubectl, which calls a program `kubectl-berth` in the PATH. They talk to the cluster
//! that kubectl talks to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The name by which kubectl finds it.
pub(super) const PROGRAM: &str = "kubectl-berth";

/// Commands that ask a cluster: they get kubectl's kubeconfig.
const ASKING: [&str; 6] = ["check", "classes", "overhead", "run", "top", "trace"];

/// Whether the program was called by this name.
#[must_use]
pub(super) fn is_called_by(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == PROGRAM)
}

/// The arguments of berth's own command line, with kubectl's kubeconfig. `arguments` begins with the program's own name.
///
/// # Errors
/// When kubectl's kubeconfig can't be told.
pub(super) fn arguments(
    mut arguments: Vec<OsString>,
    kubeconfig: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<Vec<OsString>> {
    let command = arguments.get(1).and_then(|word| word.to_str());
    if !command.is_some_and(|command| ASKING.contains(&command)) {
        return Ok(arguments);
    }
    // What comes after `--` is a program's.
    let own = arguments.iter().take_while(|word| *word != "--");
    let mut own = own.map(|word| word.to_string_lossy());
    let is_settled = |word: &str| {
        matches!(word, "--kubeconfig" | "--help" | "-h") || word.starts_with("--kubeconfig=")
    };
    if !own.any(|word| is_settled(&word)) {
        let mut flag = OsString::from("--kubeconfig=");
        flag.push(kubeconfig()?);
        arguments.insert(2, flag);
    }
    Ok(arguments)
}

/// The file that kubectl reads without flags.
///
/// # Errors
/// When there is none, or several of which none is the only one.
pub(super) fn kubectl_kubeconfig() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
    choose(named, home)
}

fn choose(named: Option<OsString>, home: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let Some(list) = named else {
        return home.context("no kubeconfig: set KUBECONFIG, or give --kubeconfig FILE");
    };
    let mut files = std::env::split_paths(&list).filter(|file| !file.as_os_str().is_empty());
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        (Some(_), Some(_)) => {
            bail!("KUBECONFIG names several files; say which one with --kubeconfig FILE")
        }
        (None, _) => bail!("KUBECONFIG names no file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(Into::into).collect()
    }

    fn planned(list: &[&str]) -> Vec<String> {
        let planned = arguments(words(list), || Ok("/home/u/.kube/config".into())).unwrap();
        planned
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn it_is_known_by_its_name() {
        assert!(is_called_by(Path::new("/usr/bin/kubectl-berth")));
        assert!(!is_called_by(Path::new("/usr/bin/berth")));
    }

    #[test]
    fn commands_that_ask_a_cluster_ask_kubectls() {
        assert_eq!(
            planned(&[PROGRAM, "overhead", "gvisor"]),
            [
                PROGRAM,
                "overhead",
                "--kubeconfig=/home/u/.kube/config",
                "gvisor"
            ]
        );
        assert_eq!(
            planned(&[PROGRAM, "run", "app:1", "--", "tool", "--kubeconfig", "x"]),
            [
                PROGRAM,
                "run",
                "--kubeconfig=/home/u/.kube/config",
                "app:1",
                "--",
                "tool",
                "--kubeconfig",
                "x"
            ]
        );
        for given in [
            &[PROGRAM, "check", "--kubeconfig", "other"][..],
            &[PROGRAM, "check", "--kubeconfig=other"],
            &[PROGRAM, "trace", "--help"],
            &[PROGRAM, "run", "-h", "app:1"],
            &[PROGRAM, "image", "ls"],
            &[PROGRAM],
        ] {
            assert_eq!(planned(given), given);
        }
    }

    #[test]
    fn one_kubeconfig_is_chosen() {
        let home = || Some(PathBuf::from("/h/.kube/config"));
        assert_eq!(choose(None, home()).unwrap(), Path::new("/h/.kube/config"));
        assert_eq!(choose(Some("a".into()), home()).unwrap(), Path::new("a"));
        for list in ["a:b", ":"] {
            let error = choose(Some(list.into()), home()).unwrap_err().to_string();
            assert!(error.starts_with("KUBECONFIG names"), "{error}");
        }
        assert!(choose(None, None).is_err());
    }
}
