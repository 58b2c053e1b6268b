//! `kubectl berth`: the same commands below kubectl, which calls a program `kubectl-berth` in the PATH. They talk to the cluster
//! that kubectl talks to.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Parser;
use rand::RngExt as _;
use serde_json::json;

/// The name by which kubectl finds it.
pub(super) const PROGRAM: &str = "kubectl-berth";

/// Commands that ask a cluster: they get kubectl's kubeconfig.
const ASKING: [&str; 3] = ["check", "overhead", "trace"];

/// Run a program in a pod of its own, under a RuntimeClass; the pod is deleted when the program has ended
#[derive(Debug, Parser)]
#[command(
    name = "kubectl berth run",
    bin_name = "kubectl berth run",
    after_help = "Example:\n  kubectl berth run --class gvisor registry.example/tool:1 -- tool --version\n\nThe exit code is the program's."
)]
struct RunArgs {
    /// RuntimeClass; without one the default handler runs it
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Namespace; by default the context's
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Environment variable; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Leave the pod when the program has ended
    #[arg(long)]
    keep: bool,
    /// Image
    image: String,
    /// Program and arguments in place of the image's own
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is to happen.
pub(super) enum Plan {
    /// berth's own command line goes on with these arguments.
    Own(Vec<OsString>),
    /// kubectl takes this process over.
    Kubectl(Vec<OsString>),
}

/// Whether the program was called by this name.
#[must_use]
pub(super) fn is_called_by(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == PROGRAM)
}

/// What kubectl's arguments mean. `arguments` begins with the program's own name.
///
/// # Errors
/// When kubectl's kubeconfig can't be told.
pub(super) fn plan(
    mut arguments: Vec<OsString>,
    kubeconfig: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<Plan> {
    let command = arguments.get(1).and_then(|word| word.to_str());
    match command {
        Some("run") => {
            let given = std::iter::once(OsString::from("kubectl berth run"));
            let run = RunArgs::parse_from(given.chain(arguments.into_iter().skip(2)));
            Ok(Plan::Kubectl(run.kubectl(is_terminal())))
        }
        Some(command) if ASKING.contains(&command) => {
            let is_given = arguments.iter().any(|word| {
                let word = word.to_string_lossy();
                word == "--kubeconfig" || word.starts_with("--kubeconfig=")
            });
            let is_help = arguments
                .iter()
                .any(|word| word == "--help" || word == "-h");
            if !is_given && !is_help {
                let mut flag = OsString::from("--kubeconfig=");
                flag.push(kubeconfig()?);
                arguments.insert(2, flag);
            }
            Ok(Plan::Own(arguments))
        }
        _ => Ok(Plan::Own(arguments)),
    }
}

/// Ends only when kubectl can't be started.
pub(super) fn become_kubectl(arguments: Vec<OsString>) -> anyhow::Error {
    let error = Command::new("kubectl").args(arguments).exec();
    anyhow::Error::new(error).context("cannot start kubectl")
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

fn is_terminal() -> bool {
    use std::io::{IsTerminal as _, stdin, stdout};
    stdin().is_terminal() && stdout().is_terminal()
}

impl RunArgs {
    /// The arguments of `kubectl run`.
    fn kubectl(self, terminal: bool) -> Vec<OsString> {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut random = rand::rng();
        let suffix = (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
        let name: String = "run-".chars().chain(suffix).collect();
        let mut arguments: Vec<OsString> = vec!["run".into(), name.into()];
        let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}").into());
        flag("image", &self.image);
        flag("restart", "Never");
        flag("stdin", "true");
        flag("quiet", "true");
        if terminal {
            flag("tty", "true");
        }
        if !self.keep {
            flag("rm", "true");
        }
        if let Some(class) = &self.class {
            let overrides = json!({"apiVersion": "v1", "spec": {"runtimeClassName": class}});
            flag("overrides", &overrides.to_string());
        }
        if let Some(namespace) = &self.namespace {
            flag("namespace", namespace);
        }
        if let Some(context) = &self.context {
            flag("context", context);
        }
        self.env.iter().for_each(|value| flag("env", value));
        if !self.command.is_empty() {
            // Else kubectl takes them for the arguments of the image's own program.
            flag("command", "true");
            arguments.push("--".into());
            arguments.extend(self.command);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(Into::into).collect()
    }

    fn planned(list: &[&str]) -> Vec<String> {
        let plan = plan(words(list), || Ok("/home/u/.kube/config".into())).unwrap();
        let (Plan::Own(words) | Plan::Kubectl(words)) = plan;
        words
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
        for given in [
            &[PROGRAM, "check", "--kubeconfig", "other"][..],
            &[PROGRAM, "check", "--kubeconfig=other"],
            &[PROGRAM, "trace", "--help"],
            &[PROGRAM, "image", "ls"],
            &[PROGRAM],
        ] {
            assert_eq!(planned(given), given);
        }
    }

    #[test]
    fn run_is_kubectl_run_with_the_class() {
        let mut arguments = planned(&[
            PROGRAM, "run", "--class", "gvisor", "-n", "ci", "--env", "A=1", "app:1", "--", "sh",
            "-c", "--rm",
        ]);
        let name = arguments.remove(1);
        assert!(name.starts_with("run-") && name.len() == 9, "{name}");
        assert_eq!(
            arguments,
            [
                "run",
                "--image=app:1",
                "--restart=Never",
                "--stdin=true",
                "--quiet=true",
                "--rm=true",
                r#"--overrides={"apiVersion":"v1","spec":{"runtimeClassName":"gvisor"}}"#,
                "--namespace=ci",
                "--env=A=1",
                "--command=true",
                "--",
                "sh",
                "-c",
                "--rm"
            ]
        );
        let kept = planned(&[PROGRAM, "run", "--keep", "app:1"]);
        assert_eq!(
            kept[2..],
            [
                "--image=app:1",
                "--restart=Never",
                "--stdin=true",
                "--quiet=true"
            ]
        );
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
