//! Asks a runtime's binary what it is.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::start::StartError;
use super::{Answer, RuntimeKind, ask};

/// Why a binary can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not there, neither as a path nor in `PATH`.
    #[error("runtime binary {0:?} not found: install it, or correct the handler's path")]
    Missing(PathBuf),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was killed, or never ended.
    #[error("runtime binary {path:?} can't be run")]
    Run {
        /// The binary.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Asked for its features, it died.
    #[error("{path:?} features was killed by signal {signal}")]
    Died {
        /// The binary.
        path: PathBuf,
        /// The signal.
        signal: i32,
    },
    /// What it says of its features is no list of features.
    #[error("{path:?} features: the answer can't be read: {reason}")]
    Features {
        /// The binary.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It knows only specs that nobody writes.
    #[error("{path:?} takes OCI specs from version {min} on, and this one writes 1.0 to 1.2")]
    Spec {
        /// The binary.
        path: PathBuf,
        /// The oldest one.
        min: String,
    },
    /// It ran but `--version` failed.
    #[error("{path:?} --version failed ({status}): {stderr}")]
    Version {
        /// The binary.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote.
        stderr: String,
    },
}

/// What a binary turned out to be.
#[derive(Debug, Clone)]
pub struct RuntimeProbe {
    /// The binary's absolute path.
    pub binary: PathBuf,
    /// The kind.
    pub kind: RuntimeKind,
    /// The version, such as `1.1.5+ds1`.
    pub version: String,
    /// Answer of `features`, for runtimes that know the verb.
    pub features: Option<oci_spec::runtime::Features>,
    /// What gVisor's runsc says of itself.
    pub gvisor: Option<GvisorBuild>,
}

/// What a build of gVisor's runsc knows, from its list of flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GvisorBuild {
    /// It can apply a container's seccomp filter inside.
    pub oci_seccomp: bool,
    /// Its platforms, the default first.
    pub platforms: Vec<String>,
}

impl RuntimeProbe {
    /// Whether recursive read-only mounts work (CRI `RuntimeHandlerFeatures.recursive_read_only_mounts`).
    #[must_use]
    pub fn recursive_read_only_mounts(&self) -> bool {
        if self.kind == RuntimeKind::Runsc {
            // Inside gVisor a mount is one, whatever is mounted below its source.
            return true;
        }
        self.features
            .as_ref()
            .and_then(|f| f.mount_options().as_ref())
            .is_some_and(|o| o.iter().any(|o| o == "rro"))
    }

    /// Whether it runs containers in a user namespace that it is given by path, with mounts whose owners are mapped
    /// already (CRI `RuntimeHandlerFeatures.user_namespaces`). runc and crun do, in every version that is about; others
    /// are only taken to when they list mapped mounts among their features.
    #[must_use]
    pub fn user_namespaces(&self) -> bool {
        if matches!(self.kind, RuntimeKind::Runc | RuntimeKind::Crun) {
            return true;
        }
        self.features
            .as_ref()
            .and_then(|f| f.linux().as_ref())
            .and_then(|l| l.mount_extensions().as_ref())
            .and_then(|m| m.idmap().as_ref())
            .and_then(|i| *i.enabled())
            .unwrap_or(false)
    }
}

/// Finds `binary` (a path, or a name in `PATH`) and asks for its version and features. Blocks for some ms.
/// `prefix` are words that make the binary a runtime.
///
/// # Errors
/// When it is missing or does not run.
pub fn probe(binary: &Path, prefix: &[String]) -> Result<RuntimeProbe, ProbeError> {
    let path = find(binary).ok_or_else(|| ProbeError::Missing(binary.to_owned()))?;
    let run = |arg: &str| {
        ask(Command::new(&path).args(prefix).arg(arg)).map_err(|source| {
            match StartError::of(&path, &source) {
                Some(error) => ProbeError::Start(error),
                None => ProbeError::Run {
                    path: path.clone(),
                    source,
                },
            }
        })
    };
    let out = run("--version")?;
    if !out.status.success() {
        return Err(ProbeError::Version {
            path: path.clone(),
            status: out.status,
            stderr: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        });
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (kind, version) = parse_version(&text, &path);
    let (features, gvisor) = if kind == RuntimeKind::Runsc {
        let flags = run("flags").ok();
        let read =
            |out: Answer| parse_flags(&String::from_utf8_lossy(&[out.stdout, out.stderr].concat()));
        // One that tells none is a gVisor all the same, and is tried out like others.
        (None, Some(flags.map(read).unwrap_or_default()))
    } else {
        let features = match run("features") {
            Ok(answer) => features(&path, kind, &answer)?,
            // Who takes any word for another verb may do so for long.
            Err(_) if kind == RuntimeKind::Other => None,
            Err(error) => return Err(error),
        };
        (features, None)
    };
    Ok(RuntimeProbe {
        binary: path,
        kind,
        version,
        features,
        gvisor,
    })
}

/// What a runtime says of its features. One that doesn't know the verb says so and ends with an error, which is no fault;
/// one that dies of it, or that knows it and answers with something else, can't be used.
fn features(
    path: &Path,
    kind: RuntimeKind,
    answer: &Answer,
) -> Result<Option<oci_spec::runtime::Features>, ProbeError> {
    if let Some(signal) = answer.status.signal() {
        return Err(ProbeError::Died {
            path: path.to_owned(),
            signal,
        });
    }
    if !answer.status.success() {
        return Ok(None);
    }
    let told: serde_json::Value = match serde_json::from_slice(&answer.stdout) {
        Ok(told) => told,
        // Who takes any word for another verb.
        Err(_) if matches!(kind, RuntimeKind::Other) => return Ok(None),
        Err(error) => {
            return Err(ProbeError::Features {
                path: path.to_owned(),
                reason: error.to_string(),
            });
        }
    };
    let min = told["ociVersionMin"].as_str().unwrap_or_default();
    if !min.is_empty() && !min.starts_with("1.") {
        return Err(ProbeError::Spec {
            path: path.to_owned(),
            min: min.to_owned(),
        });
    }
    // A list of another version's form is a list all the same.
    Ok(serde_json::from_value(told).ok())
}

fn find(binary: &Path) -> Option<PathBuf> {
    if binary.components().count() > 1 || binary.is_absolute() {
        return binary.is_file().then(|| binary.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fallback = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    std::env::split_paths(&path)
        .chain(fallback.iter().map(PathBuf::from))
        .map(|d| d.join(binary))
        .find(|p| p.is_file())
}

fn parse_version(text: &str, path: &Path) -> (RuntimeKind, String) {
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split_whitespace();
    let kind = match words.next() {
        Some("runc") => RuntimeKind::Runc,
        Some("crun") => RuntimeKind::Crun,
        Some("youki") => RuntimeKind::Youki,
        Some("runsc") => RuntimeKind::Runsc,
        Some("berth") => RuntimeKind::Berth,
        _ => RuntimeKind::from_name(path),
    };
    let version = words
        .rfind(|w| *w != "version" && *w != "version:")
        .unwrap_or(first)
        .to_owned();
    (kind, version)
}

/// Reads Go's list of flags: `  -name type`, and below it, indented further, what it is for.
fn parse_flags(text: &str) -> GvisorBuild {
    let mut build = GvisorBuild::default();
    let mut of_platform = false;
    for line in text.lines() {
        if let Some(flag) = line.trim_start().strip_prefix('-') {
            let name = flag.split_whitespace().next().unwrap_or_default();
            build.oci_seccomp |= name == "oci-seccomp";
            of_platform = name == "platform";
        } else if of_platform && let Some((_, list)) = line.split_once("use:") {
            // "ptrace (default), kvm. (default "ptrace")"
            let list = list.split_once('.').map_or(list, |(list, _)| list);
            for item in list.split(',') {
                let mut words = item.split_whitespace();
                let Some(name) = words.next() else {
                    continue;
                };
                let first = words.next() == Some("(default)");
                let at = if first { 0 } else { build.platforms.len() };
                build.platforms.insert(at, name.to_owned());
            }
        }
    }
    build
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_what_a_gvisor_can_do() {
        let old = "\
  -oci-seccomp
    \tEnables loading OCI seccomp filters inside the sandbox.
  -platform string
    \tspecifies which platform to use: ptrace (default), kvm. (default \"ptrace\")
  -platform_device_path string
    \tpath to use: none.
";
        let new = "  -platform value\n    \tspecifies which platform to use: kvm, systrap (default), ptrace.\n";
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let got = parse_flags(old);
        assert!(got.oci_seccomp);
        assert_eq!(got.platforms, names(&["ptrace", "kvm"]));
        let got = parse_flags(new);
        assert!(!got.oci_seccomp);
        assert_eq!(got.platforms, names(&["systrap", "kvm", "ptrace"]));
    }

    #[test]
    fn versions_name_the_kind() {
        let cases = [
            (
                "runc version 1.1.5+ds1\ncommit: x",
                RuntimeKind::Runc,
                "1.1.5+ds1",
            ),
            ("crun version 1.8.1\n", RuntimeKind::Crun, "1.8.1"),
            (
                "runsc version release-20240212.0\nspec: 1.1.0",
                RuntimeKind::Runsc,
                "release-20240212.0",
            ),
            ("youki version 0.7.0\n", RuntimeKind::Youki, "0.7.0"),
            (
                "berth version 0.1.0\nspec: 1.2.1",
                RuntimeKind::Berth,
                "0.1.0",
            ),
            ("foo 7", RuntimeKind::Other, "7"),
        ];
        for (text, kind, version) in cases {
            assert_eq!(
                parse_version(text, Path::new("/bin/foo")),
                (kind, version.to_owned())
            );
        }
    }

    #[test]
    fn a_missing_binary_is_named() {
        let err = probe(Path::new("berth-no-such-runtime"), &[]).expect_err("must fail");
        assert!(err.to_string().contains("berth-no-such-runtime"), "{err}");
    }

    fn fake(dir: &Path, script: &str) -> Result<RuntimeProbe, String> {
        let path = dir.join("runc");
        std::fs::write(&path, format!("#!/bin/sh\ncase $1 in {script} esac\n")).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
        let dir = dir.display().to_string();
        probe(&path, &[]).map_err(|error| error.to_string().replace(&dir, "DIR"))
    }

    #[test]
    fn a_runtime_is_usable_when_it_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        let version = "--version) echo runc version 1.3.0;;";
        let told = |more: &str| fake(dir.path(), &format!("{version} {more}"));
        // Older ones don't know the verb.
        let old = told("*) echo \"No help topic for 'features'\" >&2; exit 3;;");
        assert!(old.expect("a runtime").features.is_none());
        let new =
            told("features) echo '{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.2.1\"}';;");
        assert!(new.expect("a runtime").features.is_some());
        // A list of tomorrow's form.
        let odd = told("features) echo '{\"mountOptions\":7}';;");
        assert!(odd.expect("a runtime").features.is_none());
        for (script, reason) in [
            (
                "features) kill -SEGV $$;;",
                "\"DIR/runc\" features was killed by signal 11",
            ),
            (
                "features) echo no json;;",
                "\"DIR/runc\" features: the answer can't be read: expected ident at line 1 column 2",
            ),
            (
                "features) echo '{\"ociVersionMin\":\"2.0.0\"}';;",
                "\"DIR/runc\" takes OCI specs from version 2.0.0 on, and this one writes 1.0 to 1.2",
            ),
        ] {
            assert_eq!(told(script).expect_err(script), reason);
        }
        let library =
            "*) echo 'error while loading shared libraries: libseccomp.so.2' >&2; exit 127;;";
        assert_eq!(
            fake(dir.path(), library).expect_err("it can't run"),
            "\"DIR/runc\" --version failed (exit status: 127): error while loading shared libraries: libseccomp.so.2"
        );
    }
}
