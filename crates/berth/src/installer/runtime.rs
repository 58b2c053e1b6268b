//! Which CRI runtime the node has, what it says of itself, and how it is started again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use berth_cri_api::v1::{ListPodSandboxRequest, PodSandboxState, StatusRequest, VersionRequest};
use berth_installer::layout::Runtime;
use berth_installer::usage::Sandbox;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::host::Host;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// A list of sandboxes has all labels and annotations of all pods.
const MESSAGE_BYTES: usize = 256 << 20;
/// Where runtimes listen: containerd, k3s and RKE2, k0s, MicroK8s, CRI-O.
const SOCKETS: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/crio/crio.sock",
];

/// How the runtime is started again.
#[derive(Clone, Debug)]
pub(crate) enum Restart {
    /// By the unit of systemd that its process is of.
    Unit,
    /// By this command.
    Command(Vec<String>),
}

/// The CRI runtime of the node.
#[derive(Clone, Debug)]
pub(crate) struct Cri {
    /// Its socket, as the node has it.
    socket: PathBuf,
    client: RuntimeServiceClient<Channel>,
    /// Where the socket is for us.
    place: PathBuf,
}

/// A process that listens on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: i32,
    /// Its program, as the node has it.
    pub(crate) program: PathBuf,
    pub(crate) words: Vec<String>,
    /// The unit of systemd.
    unit: Option<String>,
}

/// What the runtime says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The handlers that it knows; none where it doesn't say.
    pub(crate) handlers: Option<BTreeSet<String>>,
}

impl Said {
    /// Whether it knows all of these handlers, as far as it says.
    pub(crate) fn knows<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        let known = self.handlers.as_ref();
        known.is_none_or(|known| names.all(|name| known.contains(name)))
    }
}

impl Cri {
    /// The runtime at this socket, or at the one of the usual sockets at which one of this name answers.
    ///
    /// # Errors
    /// When none answers, or several do.
    pub(crate) async fn find(
        host: &Host,
        socket: Option<&Path>,
        name: &str,
    ) -> anyhow::Result<Self> {
        if let Some(socket) = socket {
            return Self::at(host, socket)
                .with_context(|| format!("cannot use the CRI socket {}", socket.display()));
        }
        let mut found = Vec::new();
        for socket in SOCKETS.map(Path::new) {
            let Ok(cri) = Self::at(host, socket) else {
                continue;
            };
            if cri
                .version()
                .await
                .is_ok_and(|(said, _)| name.is_empty() || said == name)
            {
                found.push(cri);
            }
        }
        let shown: Vec<String> = found
            .iter()
            .map(|cri| cri.socket.display().to_string())
            .collect();
        match found.len() {
            0 => bail!(
                "no CRI runtime answers at {}: say with --cri-socket where it is",
                SOCKETS.join(", ")
            ),
            1 => found.pop().context("one was found"),
            _ => bail!(
                "several CRI runtimes answer: {}: say with --cri-socket which is the kubelet's",
                shown.join(", ")
            ),
        }
    }

    fn at(host: &Host, socket: &Path) -> anyhow::Result<Self> {
        let place = host.resolve(socket)?;
        let path = place.clone();
        let endpoint = Endpoint::from_static("http://cri.sock").timeout(CALL_LIMIT);
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }));
        let client = RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        Ok(Self {
            socket: socket.to_owned(),
            client,
            place,
        })
    }

    /// Its name and version.
    pub(crate) async fn version(&self) -> anyhow::Result<(String, String)> {
        let request = VersionRequest {
            version: "v1".to_owned(),
        };
        let answer = self
            .client
            .clone()
            .version(request)
            .await
            .map_err(failed("Version"))?
            .into_inner();
        Ok((answer.runtime_name, answer.runtime_version))
    }

    /// What it says of its handlers.
    pub(crate) async fn said(&self) -> anyhow::Result<Said> {
        let request = StatusRequest { verbose: true };
        let answer = self
            .client
            .clone()
            .status(request)
            .await
            .map_err(failed("Status"))?
            .into_inner();
        let listed: BTreeSet<String> = answer
            .runtime_handlers
            .into_iter()
            .map(|handler| handler.name)
            .collect();
        // containerd 1.x lists none, but shows its configuration.
        let config: Option<Value> = answer
            .info
            .get("config")
            .and_then(|text| serde_json::from_str(text).ok());
        let shown = config
            .as_ref()
            .and_then(|config| config["containerd"]["runtimes"].as_object());
        let shown: Option<BTreeSet<String>> =
            shown.map(|runtimes| runtimes.keys().cloned().collect());
        let handlers = if listed.is_empty() {
            shown
        } else {
            Some(listed)
        };
        Ok(Said { handlers })
    }

    /// The node's sandboxes.
    pub(crate) async fn sandboxes(&self) -> anyhow::Result<Vec<Sandbox>> {
        let request = ListPodSandboxRequest { filter: None };
        let answer = self.client.clone().list_pod_sandbox(request).await;
        let items = answer.map_err(failed("ListPodSandbox"))?.into_inner().items;
        let sandboxes = items.into_iter().map(|sandbox| {
            let meta = sandbox.metadata.unwrap_or_default();
            Sandbox {
                is_ready: sandbox.state == PodSandboxState::SandboxReady as i32,
                id: sandbox.id,
                handler: sandbox.runtime_handler,
                pod: format!("{}/{}", meta.namespace, meta.name),
            }
        });
        Ok(sandboxes.collect())
    }

    /// The process that listens on the socket.
    pub(crate) async fn process(&self) -> anyhow::Result<Process> {
        let what = || format!("cannot tell who listens at {}", self.socket.display());
        let stream = UnixStream::connect(&self.place).await.with_context(what)?;
        let pid = stream
            .peer_cred()
            .with_context(what)?
            .pid()
            .context("the kernel does not say")
            .with_context(what)?;
        ensure!(pid > 1, "{}: it is process {pid} (is hostPID set?)", what());
        Process::read(pid).with_context(what)
    }
}

fn failed(call: &'static str) -> impl Fn(tonic::Status) -> anyhow::Error {
    move |status| anyhow::anyhow!("the CRI runtime's {call}: {}", status.message())
}

impl Process {
    fn read(pid: i32) -> anyhow::Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let program = fs::read_link(proc.join("exe"))?;
        let shown = program.to_string_lossy();
        // A program that was replaced by an upgrade, and not started since.
        let program = PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
        let words = fs::read(proc.join("cmdline"))?;
        let words = words
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        let unit = unit_of(&fs::read_to_string(proc.join("cgroup"))?);
        Ok(Self {
            pid,
            program,
            words: words.collect(),
            unit,
        })
    }

    /// The value of a flag on its command line.
    fn flag(&self, names: &[&str]) -> Option<String> {
        let mut words = self.words.iter().skip(1);
        while let Some(word) = words.next() {
            for name in names {
                if word == name {
                    return words.next().cloned();
                }
                if let Some(value) = word
                    .strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix('='))
                {
                    return Some(value.to_owned());
                }
            }
        }
        None
    }

    /// What has to be known of the runtime to find the place of its handlers.
    pub(crate) fn runtime(
        &self,
        name: &str,
        version: &str,
        kubelet: &str,
        config: Option<&Path>,
    ) -> anyhow::Result<Runtime> {
        let is_crio = match name {
            "containerd" => false,
            "cri-o" => true,
            other => bail!(
                "the CRI runtime is {other}: handlers can be installed for containerd and CRI-O"
            ),
        };
        let default = if is_crio {
            "/etc/crio/crio.conf"
        } else {
            "/etc/containerd/config.toml"
        };
        let main = config
            .map(Path::to_owned)
            .or_else(|| self.flag(&["--config", "-config", "-c"]).map(PathBuf::from));
        let crio_dir = self.flag(&["--config-dir", "-d"]).map(PathBuf::from);
        Ok(Runtime {
            is_crio,
            version: numbers(version)
                .with_context(|| format!("{name}'s version {version:?} has no numbers"))?,
            main: main.unwrap_or_else(|| default.into()),
            crio_dir: crio_dir.unwrap_or_else(|| "/etc/crio/crio.conf.d".into()),
            kubelet: kubelet.to_owned(),
        })
    }

    /// The unit of systemd that would be restarted.
    pub(crate) fn restarted_unit(&self, restart: &Restart) -> Option<&str> {
        match restart {
            Restart::Unit => self.unit.as_deref(),
            Restart::Command(_) => None,
        }
    }

    /// The command that starts the runtime again.
    pub(crate) fn restart(&self, restart: &Restart) -> anyhow::Result<Vec<String>> {
        match (restart, &self.unit) {
            (Restart::Command(words), _) => Ok(words.clone()),
            (Restart::Unit, Some(unit)) => {
                Ok(["systemctl", "restart", unit].map(str::to_owned).to_vec())
            }
            (Restart::Unit, None) => bail!(
                "process {} ({}) is of no unit of systemd: say with --restart-command how the runtime is started again",
                self.pid,
                self.program.display()
            ),
        }
    }
}

/// Whether systemd leaves a unit's other processes alone when it restarts it: of the output of `systemctl show -p KillMode UNIT`.
///
/// # Errors
/// When it would end them, or that can't be told: containerd's shims are among them, and with them all containers.
pub(crate) fn check_kill_mode(unit: &str, shown: &str) -> anyhow::Result<()> {
    let mode = shown.trim().strip_prefix("KillMode=").unwrap_or_default();
    ensure!(
        matches!(mode, "process" | "none"),
        "unit {unit} has KillMode {mode:?}: its restart would end all containers of the node; set KillMode=process in the unit, or say with \
         --restart-command how the runtime is started again"
    );
    Ok(())
}

/// Major and minor of `1.6.20~ds1`, `v2.1.4-k3s1`.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The unit of systemd in the text of /proc/PID/cgroup: `0::/system.slice/containerd.service`.
fn unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    let units = paths.flat_map(|path| path.split('/').filter(|part| part.ends_with(".service")));
    // The innermost, should one be in another.
    let unit = units.last()?;
    let is_plain = unit
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c))
        && !unit.starts_with('-');
    is_plain.then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(words: &[&str]) -> Process {
        Process {
            pid: 7,
            program: "/usr/bin/containerd".into(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            unit: None,
        }
    }

    #[test]
    fn the_process_says_which_file_it_reads() {
        let main = |words: &[&str]| {
            process(words)
                .runtime("containerd", "1.6.20~ds1", "", None)
                .unwrap()
                .main
        };
        assert_eq!(
            main(&["containerd"]),
            Path::new("/etc/containerd/config.toml")
        );
        assert_eq!(main(&["containerd", "-c", "/a"]), Path::new("/a"));
        assert_eq!(
            main(&["containerd", "--log-level", "info", "--config=/b"]),
            Path::new("/b")
        );
        let crio = process(&["crio", "--config-dir", "/d"])
            .runtime("cri-o", "1.31.0", "", None)
            .unwrap();
        assert_eq!(
            (crio.is_crio, crio.version, crio.crio_dir.as_path()),
            (true, (1, 31), Path::new("/d"))
        );
        assert!(process(&[]).runtime("docker", "20.1", "", None).is_err());
        for (version, want) in [
            ("v2.1.4-k3s1", Some((2, 1))),
            ("1.7.28", Some((1, 7))),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(numbers(version), want, "{version}");
        }
    }

    #[test]
    fn a_restart_must_not_end_shims() {
        for (shown, is_right) in [
            ("KillMode=process\n", true),
            ("KillMode=none\n", true),
            ("KillMode=control-group\n", false),
            ("KillMode=mixed\n", false),
            ("process", false),
            ("", false),
        ] {
            assert_eq!(
                check_kill_mode("c.service", shown).is_ok(),
                is_right,
                "{shown}"
            );
        }
    }

    #[test]
    fn the_unit_is_the_cgroups() {
        for (text, want) in [
            (
                "0::/system.slice/containerd.service\n",
                Some("containerd.service"),
            ),
            (
                "12:pids:/system.slice/k3s.service\n0::/system.slice/k3s.service\n",
                Some("k3s.service"),
            ),
            (
                "0::/system.slice/snap.microk8s.daemon-containerd.service\n",
                Some("snap.microk8s.daemon-containerd.service"),
            ),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
            ("0::/system.slice/--x.service\n", None),
            ("0::/system.slice/a b.service\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn without_a_unit_there_has_to_be_a_command() {
        let mut process = process(&["containerd"]);
        assert!(
            process
                .restart(&Restart::Unit)
                .unwrap_err()
                .to_string()
                .contains("--restart-command")
        );
        process.unit = Some("containerd.service".to_owned());
        assert_eq!(
            process.restart(&Restart::Unit).unwrap(),
            ["systemctl", "restart", "containerd.service"]
        );
        let own = Restart::Command(vec!["/restart".to_owned()]);
        assert_eq!(process.restart(&own).unwrap(), ["/restart"]);
    }
}
