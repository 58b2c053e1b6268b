//! Which network stack and which platform a gVisor can run with on this machine, found out by
//! running it once: no version number tells.
//!
//! A trial is a sandbox of one process in an empty network namespace, a quarter of a second each.
//! What was found holds for the life of this process, for one binary with one set of arguments.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use berth_oci::runtime::{GvisorBuild, GvisorNetwork, Hide, RuntimeCommand, RuntimeKind, View};
use parking_lot::Mutex;
use serde_json::json;

use crate::pause;

/// A sandbox that has not ended by then never will.
const LIMIT: Duration = Duration::from_secs(10);

/// How a gVisor is to be run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GvisorSettings {
    pub(crate) network: GvisorNetwork,
    /// The network sysctls have to be hidden from it, see [`RuntimeCommand::covers_sysctls`].
    pub(crate) covers_sysctls: bool,
    /// `None`: the build's own default, or what the arguments say.
    pub(crate) platform: Option<String>,
}

impl GvisorSettings {
    /// The words of the table.
    pub(crate) fn describe(&self, build: &GvisorBuild) -> String {
        let network = match self.network {
            GvisorNetwork::Sandbox => "sandbox",
            GvisorNetwork::Host => "host",
        };
        let default = build.platforms.first().map_or("default", String::as_str);
        let platform = self.platform.as_deref().unwrap_or(default);
        format!("network={network},platform={platform}")
    }
}

type Found = Arc<OnceLock<Result<GvisorSettings, String>>>;
/// A binary's path, inode, size and time, and the arguments.
type Key = (PathBuf, u64, u64, i64, Vec<String>);

static TRIALS: OnceLock<Mutex<HashMap<Key, Found>>> = OnceLock::new();

fn slot(binary: &Path, args: &[String]) -> Found {
    let of = |meta: Metadata| (meta.ino(), meta.size(), meta.mtime());
    let (inode, size, time) = binary.metadata().map(of).unwrap_or_default();
    let key = (binary.to_owned(), inode, size, time, args.to_vec());
    let trials = TRIALS.get_or_init(Mutex::default);
    Arc::clone(trials.lock().entry(key).or_default())
}

/// What works; found out at the first call, which blocks for it.
///
/// # Errors
/// What the last trial said, when none worked.
pub(crate) fn settings(
    binary: &Path,
    args: &[String],
    build: &GvisorBuild,
) -> Result<GvisorSettings, String> {
    slot(binary, args)
        .get_or_init(|| choose(args, build, |settings| try_out(binary, args, settings)))
        .clone()
}

/// What was found out so far.
pub(crate) fn known(binary: &Path, args: &[String]) -> Option<Result<GvisorSettings, String>> {
    slot(binary, args).get().cloned()
}

/// gVisor's own stack before the host's, the build's default platform before the others. What the
/// arguments fix is not up for choice.
fn choose(
    args: &[String],
    build: &GvisorBuild,
    works: impl Fn(&GvisorSettings) -> Result<(), String>,
) -> Result<GvisorSettings, String> {
    let mut probe = RuntimeCommand::new(RuntimeKind::Runsc, "", "");
    probe.args = args.to_vec();
    let networks = match value(args, "network") {
        None => vec![
            (GvisorNetwork::Sandbox, false),
            (GvisorNetwork::Sandbox, true),
            (GvisorNetwork::Host, false),
        ],
        Some("sandbox") => vec![
            (GvisorNetwork::Sandbox, false),
            (GvisorNetwork::Sandbox, true),
        ],
        Some(_) => vec![(GvisorNetwork::Host, false)],
    };
    let mut platforms = vec![None];
    if !probe.sets("platform") {
        // KVM spins for ever where a machine only seems to have it: it has to be asked for.
        let others = build.platforms.iter().skip(1).filter(|name| *name != "kvm");
        platforms.extend(others.cloned().map(Some));
    }
    let mut problem = String::new();
    for platform in platforms {
        for (network, covers_sysctls) in &networks {
            let settings = GvisorSettings {
                network: *network,
                covers_sysctls: *covers_sysctls,
                platform: platform.clone(),
            };
            match works(&settings) {
                Ok(()) => return Ok(settings),
                Err(error) => problem = error,
            }
        }
    }
    Err(format!("a trial sandbox does not run: {problem}"))
}

/// The value of `--name=value` or `--name value`.
fn value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(at, arg)| {
        let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
        match flag.split_once('=') {
            Some((flag, value)) => (flag == name).then_some(value),
            None if flag == name => args.get(at + 1).map(String::as_str),
            None => None,
        }
    })
}

/// Runs a sandbox whose only process ends at once.
fn try_out(binary: &Path, args: &[String], settings: &GvisorSettings) -> Result<(), String> {
    let dir = tempfile::Builder::new()
        .prefix("berth-trial-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    bundle(dir.path()).map_err(|error| error.to_string())?;
    let mut command = RuntimeCommand::new(RuntimeKind::Runsc, binary, dir.path().join("root"));
    command.network = settings.network;
    command.covers_sysctls = settings.covers_sysctls;
    command.platform.clone_from(&settings.platform);
    command.args = args.to_vec();
    command.args.push("--ignore-cgroups".to_owned());
    let log = dir.path().join("log");
    let id = format!("berth-trial-{}", hex::encode(rand::random::<[u8; 6]>()));
    let call = |verb: &str, rest: &[&str]| {
        // Not /dev/null: runsc gives its streams to the user that the sandbox runs as.
        let (nothing, _) = std::io::pipe()?;
        let words = File::create(dir.path().join("words"))?;
        let mut child = Command::new(binary);
        child
            .args(command.global_args(&log))
            .arg(verb)
            .args(rest)
            .stdin(nothing)
            .stdout(words.try_clone()?)
            .stderr(words)
            .process_group(0);
        let hide = command.hides(verb, None);
        if hide != Hide::Nothing {
            let view = View::new(&hide)?;
            // SAFETY: the closure only makes system calls, on memory that was made before the fork.
            unsafe { child.pre_exec(move || view.apply()) };
        }
        wait(&mut child)
    };
    let bundle = dir.path().to_string_lossy().into_owned();
    let ended = call("run", &["--bundle", &bundle, &id]).map_err(|error| error.to_string())?;
    match ended {
        Some(0) => Ok(()),
        other => {
            let _ = call("delete", &["--force", &id]);
            Err(match other {
                Some(_) => last_message(&log),
                None => format!("no end after {} s", LIMIT.as_secs()),
            })
        }
    }
}

/// Runs it to its end, or kills it after the limit.
fn wait(command: &mut Command) -> std::io::Result<Option<i32>> {
    let mut child = command.spawn()?;
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last error in a log of JSON lines.
fn last_message(log: &Path) -> String {
    #[derive(serde::Deserialize)]
    struct Line {
        msg: String,
    }
    std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .next_back()
        .map_or_else(|| "it fails without a word".to_owned(), |line| line.msg)
}

fn bundle(dir: &Path) -> std::io::Result<()> {
    let rootfs = dir.join("rootfs");
    std::fs::create_dir(&rootfs)?;
    let program = rootfs.join("pause");
    std::fs::write(&program, pause::program())?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        // Writes nothing into /dev/null and ends.
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/pause", "/dev/null", ""],
            "cwd": "/",
        },
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "network" },
            ],
        },
    });
    std::fs::write(dir.join("config.json"), spec.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(platforms: &[&str]) -> GvisorBuild {
        GvisorBuild {
            oci_seccomp: true,
            platforms: platforms.iter().map(|p| (*p).to_owned()).collect(),
        }
    }

    fn chosen(args: &[&str], works: impl Fn(&GvisorSettings) -> bool) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let build = build(&["systrap", "kvm", "ptrace"]);
        choose(&args, &build, |settings| {
            works(settings).then_some(()).ok_or_else(|| "no".to_owned())
        })
        .map(|settings| format!("{} {}", settings.describe(&build), settings.covers_sysctls))
    }

    #[test]
    fn what_works_is_taken_and_what_is_configured_stays() {
        let own = |s: &GvisorSettings| s.network == GvisorNetwork::Sandbox;
        for (args, works, wanted) in [
            (
                &[][..],
                &(|_: &GvisorSettings| true) as &dyn Fn(&GvisorSettings) -> bool,
                "network=sandbox,platform=systrap false",
            ),
            (
                &[],
                &|s| s.covers_sysctls || !own(s),
                "network=sandbox,platform=systrap true",
            ),
            (&[], &|s| !own(s), "network=host,platform=systrap false"),
            (
                &[],
                &|s| s.platform.is_some(),
                "network=sandbox,platform=ptrace false",
            ),
            (
                &["--network=host"],
                &|_| true,
                "network=host,platform=systrap false",
            ),
        ] {
            assert_eq!(chosen(args, works).as_deref(), Ok(wanted), "{args:?}");
        }
        let kvm = |s: &GvisorSettings| s.platform.as_deref() == Some("kvm");
        assert!(chosen(&[], kvm).is_err());
        let no_choice = |s: &GvisorSettings| s.platform.is_some();
        assert!(chosen(&["-platform", "kvm"], no_choice).is_err());
        assert!(chosen(&["--network", "sandbox"], |s| !own(s)).is_err());
    }
}
