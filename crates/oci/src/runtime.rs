//! Runtimes driven by their command line: which one a binary is, and how it wants to be called.

mod ask;
mod probe;
mod start;
mod view;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use ask::{Answer, ask};
pub use oci_spec::runtime::Features as OciFeatures;
pub use probe::{GvisorBuild, ProbeError, RuntimeProbe, probe};
pub use start::StartError;
pub use view::View;

/// The kinds whose ways we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// opencontainers/runc, the reference.
    Runc,
    /// containers/crun.
    Crun,
    /// youki-dev/youki.
    Youki,
    /// gVisor's runsc.
    Runsc,
    /// The runtime inside berth (`berth oci`).
    Berth,
    /// Anything else that takes runc's command line.
    Other,
    /// Virtual machines behind a shim that is not ours (Kata's). It has no command line of its own.
    Vm,
}

impl RuntimeKind {
    /// Guesses from the name of the binary; [`probe`] is surer.
    #[must_use]
    pub fn from_name(binary: &Path) -> Self {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        match name.as_ref() {
            n if n.starts_with("runsc") => Self::Runsc,
            n if n.starts_with("crun") => Self::Crun,
            n if n.starts_with("youki") => Self::Youki,
            n if n.starts_with("runc") => Self::Runc,
            _ => Self::Other,
        }
    }

    /// Whether a pod's first container must be a sandbox container that the later ones join.
    #[must_use]
    pub fn needs_sandbox_container(self) -> bool {
        matches!(self, Self::Runsc)
    }

    /// Whether containers are processes of the host's kernel (so that namespaces, seccomp and per-container cgroups count).
    #[must_use]
    pub fn shares_host_kernel(self) -> bool {
        !matches!(self, Self::Runsc | Self::Vm)
    }
}

/// Which network stack gVisor uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GvisorNetwork {
    /// gVisor's own stack, fed with the namespace's interfaces.
    #[default]
    Sandbox,
    /// The host's stack in the pod's network namespace.
    Host,
}

/// How to call one runtime: the binary and what comes before the verb.
///
/// Serialized as JSON it travels to our shim in `CreateTaskRequest.options` and is kept in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeCommand {
    /// The kind, which decides on quirks.
    pub kind: RuntimeKind,
    /// The binary: absolute, or a name looked up in `PATH`.
    pub binary: PathBuf,
    /// Words that make the binary a runtime, before all others: `oci` for berth's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<String>,
    /// The runtime's own state directory (`--root`), one for each handler.
    pub root: PathBuf,
    /// More global arguments, as configured.
    #[serde(default)]
    pub args: Vec<String>,
    /// Let the runtime ask systemd for cgroups.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// gVisor's network stack; ignored by the others.
    #[serde(default)]
    pub network: GvisorNetwork,
    /// For gVisor's own stack: hide the network sysctls from the runtime, because this build takes every
    /// network namespace that shows them for the host's.
    #[serde(default = "yes")]
    pub covers_sysctls: bool,
    /// gVisor's platform; its default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

fn yes() -> bool {
    true
}

impl RuntimeCommand {
    /// A command with the defaults of its kind.
    #[must_use]
    pub fn new(kind: RuntimeKind, binary: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            kind,
            binary: binary.into(),
            prefix: Vec::new(),
            root: root.into(),
            args: Vec::new(),
            systemd_cgroup: false,
            network: GvisorNetwork::default(),
            covers_sysctls: true,
            platform: None,
        }
    }

    /// Adds what this version of the runtime wants.
    ///
    /// gVisor since spring 2023 keeps a file in the rootfs by default, and a stale one blocks the next start.
    pub fn set_version(&mut self, version: &str) {
        if self.kind == RuntimeKind::Runsc
            && !self.sets("overlay2")
            && !self.sets("overlay")
            && release_date(version) >= Some(20_230_401)
        {
            self.args.push("--overlay2=none".to_owned());
        }
    }

    /// Adds what this build of gVisor can do and does not do by itself.
    ///
    /// Its containers run without their seccomp filters unless told otherwise.
    pub fn set_build(&mut self, build: &GvisorBuild) {
        if build.oci_seccomp && !self.sets("oci-seccomp") {
            self.args.push("--oci-seccomp".to_owned());
        }
    }

    /// Whether the configured arguments have this flag.
    #[must_use]
    pub fn sets(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| flag_name(arg) == Some(flag))
    }

    /// The arguments before the verb, with the runtime's log going to `log` as JSON lines.
    #[must_use]
    pub fn global_args(&self, log: &Path) -> Vec<String> {
        let mut out = self.prefix.clone();
        out.extend([
            format!("--root={}", self.root.display()),
            format!("--log={}", log.display()),
            "--log-format=json".to_owned(),
        ]);
        if self.systemd_cgroup {
            out.push(match self.kind {
                RuntimeKind::Runsc => "--systemd-cgroup=true".to_owned(),
                RuntimeKind::Runc
                | RuntimeKind::Crun
                | RuntimeKind::Youki
                | RuntimeKind::Berth
                | RuntimeKind::Vm
                | RuntimeKind::Other => "--systemd-cgroup".to_owned(),
            });
        }
        if self.kind == RuntimeKind::Runsc {
            out.push(
                match self.network {
                    GvisorNetwork::Sandbox => "--network=sandbox",
                    GvisorNetwork::Host => "--network=host",
                }
                .to_owned(),
            );
            if let Some(platform) = &self.platform {
                out.push(format!("--platform={platform}"));
            }
        }
        out.extend(self.args.iter().cloned());
        out
    }

    /// Paths that must be hidden in a private mount namespace while the runtime runs `verb`.
    ///
    /// crun refuses hybrid cgroups unless the unified tree is away; older gVisor believes itself in the
    /// root network namespace when it sees `/proc/sys/net/core/rmem_default`, which newer kernels show in all.
    #[must_use]
    pub fn hides(&self, verb: &str, hybrid_unified: Option<&Path>) -> Hide {
        match (self.kind, verb) {
            (RuntimeKind::Crun, _) => match hybrid_unified {
                Some(path) => Hide::Unmount(path.to_owned()),
                None => Hide::Nothing,
            },
            (RuntimeKind::Runsc, "create" | "start" | "run" | "restore")
                if self.network == GvisorNetwork::Sandbox && self.covers_sysctls =>
            {
                Hide::Cover(PathBuf::from("/proc/sys/net"))
            }
            (
                RuntimeKind::Runc
                | RuntimeKind::Youki
                | RuntimeKind::Runsc
                | RuntimeKind::Berth
                | RuntimeKind::Vm
                | RuntimeKind::Other,
                _,
            ) => Hide::Nothing,
        }
    }
}

/// The name in `--name`, `-name` and `--name=value`.
fn flag_name(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    Some(name.split('=').next().unwrap_or(name))
}

/// The date in a gVisor version (`release-20240212.0`, `0.0~20221219.0`).
fn release_date(version: &str) -> Option<u32> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| part.len() == 8)?
        .parse()
        .ok()
}

/// What to do to a runtime's view of the mounts before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hide {
    /// Leave the mount namespace alone.
    Nothing,
    /// Unmount this path in a private mount namespace.
    Unmount(PathBuf),
    /// Mount an empty tmpfs over this path in a private mount namespace.
    Cover(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_comes_before_all_options() {
        let mut command = RuntimeCommand::new(RuntimeKind::Berth, "/bin/berth", "/r");
        command.prefix = vec!["oci".to_owned()];
        let args = command.global_args(Path::new("/l"));
        assert_eq!(args, ["oci", "--root=/r", "--log=/l", "--log-format=json"]);
        // Options of an older berth, kept in a bundle, have none.
        let old = r#"{"kind":"runc","binary":"/b","root":"/r"}"#;
        let old: RuntimeCommand = serde_json::from_str(old).expect("understood");
        assert!(old.prefix.is_empty());
    }

    #[test]
    fn newer_gvisor_gets_no_overlay() {
        for (kind, version, want) in [
            (RuntimeKind::Runsc, "release-20240212.0", true),
            (RuntimeKind::Runsc, "0.0~20221219.0", false),
            (RuntimeKind::Runc, "20240212", false),
        ] {
            let mut command = RuntimeCommand::new(kind, "x", "/r");
            command.set_version(version);
            assert_eq!(
                command.args.contains(&"--overlay2=none".to_owned()),
                want,
                "{version}"
            );
        }
        let mut command = RuntimeCommand::new(RuntimeKind::Runsc, "x", "/r");
        command.args = vec!["--overlay2=root:self".to_owned()];
        command.set_version("release-20240212.0");
        assert_eq!(command.args, ["--overlay2=root:self"]);
    }

    #[test]
    fn filters_are_switched_on_where_the_build_has_them() {
        let mut command = RuntimeCommand::new(RuntimeKind::Runsc, "x", "/r");
        let build = GvisorBuild {
            oci_seccomp: true,
            platforms: Vec::new(),
        };
        command.set_build(&build);
        assert_eq!(command.args, ["--oci-seccomp"]);
        command.args = vec!["-oci-seccomp=false".to_owned()];
        command.set_build(&build);
        assert_eq!(command.args, ["-oci-seccomp=false"]);
    }
}
