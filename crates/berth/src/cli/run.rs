//! `berth run`: a program in a pod of its own, under a class.

mod progress;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use futures::{AsyncReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec};
use kube::api::{Api, DeleteParams, LogParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rand::RngExt as _;
use serde_json::json;

use super::access::AccessArgs;
use progress::{Stage, stage};

/// The container's name.
const CONTAINER: &str = "main";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kubectl berth run --class gvisor registry.example/tool:1 -- tool --version\n\n\
                  The exit code is the program's. With -i or -t kubectl attaches to it."
)]
pub(super) struct RunArgs {
    /// RuntimeClass; without one the default handler runs it
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Namespace; by default the kubeconfig's
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Environment variable; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Leave the pod when the program has ended
    #[arg(long)]
    keep: bool,
    /// Lead this command's input to the program (by kubectl)
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the program a terminal (by kubectl)
    #[arg(short = 't', long, requires = "stdin")]
    tty: bool,
    /// Image
    image: String,
    /// Program and arguments in place of the image's own
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten, next_help_heading = "Access")]
    access: AccessArgs,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl RunArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let name = random_name();
        if self.stdin {
            let mut kubectl = Command::new("kubectl");
            kubectl.args(self.kubectl(&name));
            let error = kubectl.env("KUBECONFIG", self.access.path()).exec();
            return Err(anyhow::Error::new(error)
                .context("cannot start kubectl, which attaches to the program"));
        }
        let client = self.access.client().await?;
        let namespace = self
            .namespace
            .as_deref()
            .unwrap_or(client.default_namespace());
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pod = pods.create(&PostParams::default(), &self.pod(&name)).await;
        let pod = pod.context("cannot create the pod")?;
        if self.keep {
            eprintln!("pod {namespace}/{name}");
        }
        let ended = tokio::select! {
            ended = follow(&pods, &name) => ended,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        if !self.keep {
            // Only this pod, should somebody have made another one of its name.
            let mut delete = DeleteParams::default().grace_period(0);
            delete.preconditions = pod.metadata.uid.map(|uid| kube::api::Preconditions {
                uid: Some(uid),
                resource_version: None,
            });
            if let Err(error) = pods.delete(&name, &delete).await
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                eprintln!("berth: cannot delete pod {namespace}/{name}: {error}");
            }
        }
        ended
    }

    fn pod(&self, name: &str) -> Pod {
        let variable = |(key, value): &(String, String)| EnvVar {
            name: key.clone(),
            value: Some(value.clone()),
            value_from: None,
        };
        let given = |list: Vec<_>| Some(list).filter(|list: &Vec<_>| !list.is_empty());
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([("run".to_owned(), name.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                runtime_class_name: self.class.clone(),
                restart_policy: Some("Never".into()),
                containers: vec![Container {
                    name: CONTAINER.into(),
                    image: Some(self.image.clone()),
                    command: given(self.command.clone()),
                    env: Some(self.env.iter().map(variable).collect()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    /// The arguments of `kubectl run`.
    fn kubectl(&self, name: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["run".into(), name.into()];
        let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}").into());
        flag("image", &self.image);
        flag("restart", "Never");
        flag("stdin", "true");
        flag("quiet", "true");
        if self.tty {
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
        for (key, value) in &self.env {
            flag("env", &format!("{key}={value}"));
        }
        if !self.command.is_empty() {
            // Else kubectl takes them for arguments of the image's own program.
            flag("command", "true");
            arguments.push("--".into());
            arguments.extend(self.command.iter().map(OsString::from));
        }
        arguments
    }
}

/// Shows what the program writes until it has ended, and gives its exit code.
async fn follow(pods: &Api<Pod>, name: &str) -> anyhow::Result<ExitCode> {
    let mut told = None;
    let mut shown = false;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = Box::pin(watcher(pods.clone(), config).default_backoff());
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => pod,
            Ok(watcher::Event::Delete(_)) => bail!("the pod was deleted by somebody else"),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => continue,
            Err(error) => {
                eprintln!("berth: cannot watch the pod; trying again: {error}");
                continue;
            }
        };
        let now = stage(&pod, CONTAINER);
        if let Stage::Waiting(Some(reason)) = &now
            && told.as_ref() != Some(reason)
        {
            eprintln!("berth: {reason}");
            told = Some(reason.clone());
        }
        if matches!(now, Stage::Running | Stage::Ended { .. }) && !shown {
            shown = true;
            output(pods, name).await?;
        }
        match now {
            Stage::Waiting(_) | Stage::Running => {}
            Stage::Ended { code } => return Ok(ExitCode::from(code)),
            Stage::Failed(reason) => bail!("{reason}"),
        }
    }
    bail!("the watch of the pod has ended")
}

/// What the container has written and writes, until it ends.
async fn output(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let parameters = LogParams {
        container: Some(CONTAINER.into()),
        follow: true,
        ..LogParams::default()
    };
    let lines = pods.log_stream(name, &parameters).await;
    let mut lines = std::pin::pin!(lines.context("cannot read what the program writes")?);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = lines.read(&mut buffer).await;
        let read = read.context("cannot read what the program writes")?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        let mut out = std::io::stdout().lock();
        out.write_all(part).and_then(|()| out.flush())?;
    }
    Ok(())
}

fn random_name() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    let suffix = (0..8).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    "run-".chars().chain(suffix).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(words: &[&str]) -> RunArgs {
        Line::parse_from([&["run"], words].concat()).run
    }

    #[test]
    fn the_pod_is_what_was_asked_for() {
        let run = parse(&[
            "--class", "gvisor", "--env", "A=b=c", "app:1", "--", "sh", "-c", "--keep",
        ]);
        let spec = run.pod("run-x").spec.unwrap();
        assert_eq!(spec.runtime_class_name.as_deref(), Some("gvisor"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        let container = &spec.containers[0];
        assert_eq!(
            container.command.as_deref(),
            Some(&["sh".into(), "-c".into(), "--keep".into()][..])
        );
        let variable = &container.env.as_ref().unwrap()[0];
        assert_eq!(
            (variable.name.as_str(), variable.value.as_deref()),
            ("A", Some("b=c"))
        );
        let plain = parse(&["app:1"]).pod("run-x").spec.unwrap();
        assert!(plain.runtime_class_name.is_none() && plain.containers[0].command.is_none());
    }

    #[test]
    fn with_input_it_is_kubectl_run_with_the_class() {
        let run = parse(&[
            "-it", "--class", "gvisor", "-n", "ci", "--env", "A=1", "app:1", "--", "sh", "--rm",
        ]);
        let arguments = run.kubectl("run-x");
        let arguments: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        assert_eq!(
            arguments,
            [
                "run",
                "run-x",
                "--image=app:1",
                "--restart=Never",
                "--stdin=true",
                "--quiet=true",
                "--tty=true",
                "--rm=true",
                r#"--overrides={"apiVersion":"v1","spec":{"runtimeClassName":"gvisor"}}"#,
                "--namespace=ci",
                "--env=A=1",
                "--command=true",
                "--",
                "sh",
                "--rm"
            ]
        );
    }

    #[test]
    fn names_are_labels() {
        let name = random_name();
        assert!(
            name.len() == 12 && name.bytes().all(|c| c == b'-' || c.is_ascii_alphanumeric()),
            "{name}"
        );
        assert_ne!(name, random_name());
    }
}
