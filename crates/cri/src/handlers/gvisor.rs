//! Which network stack and which platform a gVisor can run with on this machine, found out by
//! running it once: no version number tells.
//!
//! A trial is a sandbox of one process in an empty network namespace, a quarter of a second each.
//! What was found holds for the life of this process, for one binary with one set of arguments; a failure
//! until it is tried again ([`settings_again`]), with more patience: nobody waits for that, and a machine that is slow, or
//! was busy at the first trial, is told from a platform that hangs.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use berth_oci::runtime::{GvisorBuild, GvisorNetwork, Hide, RuntimeCommand, RuntimeKind, View};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::json;

use crate::pause;

/// How long the first trial of a platform may take: a start waits for it.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a later one may take. A sandbox that has not ended by then never will.
const PATIENT_LIMIT: Duration = Duration::from_secs(60);

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

fn key(binary: &Path, args: &[String]) -> Key {
    let of = |meta: Metadata| (meta.ino(), meta.size(), meta.mtime());
    let (inode, size, time) = binary.metadata().map(of).unwrap_or_default();
    (binary.to_owned(), inode, size, time, args.to_vec())
}

fn slot(binary: &Path, args: &[String]) -> Found {
    let trials = TRIALS.get_or_init(Mutex::default);
    Arc::clone(trials.lock().entry(key(binary, args)).or_default())
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
        .get_or_init(|| {
            choose(args, build, |settings| {
                try_out(binary, args, settings, LIMIT)
            })
        })
        .clone()
}

/// Finds it out once more; what was known holds until then. Tells whether it is another answer. Blocks.
pub(crate) fn settings_again(binary: &Path, args: &[String], build: &GvisorBuild) -> bool {
    let found = choose(args, build, |settings| {
        try_out(binary, args, settings, PATIENT_LIMIT)
    });
    let changed = known(binary, args).as_ref() != Some(&found);
    let trials = TRIALS.get_or_init(Mutex::default);
    let again: Found = Arc::new(OnceLock::from(found));
    trials.lock().insert(key(binary, args), again);
    changed
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
    works: impl Fn(&GvisorSettings) -> Result<(), Failure>,
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
    let mut problem = None;
    for platform in platforms {
        let mut last = None;
        for (network, covers_sysctls) in &networks {
            let settings = GvisorSettings {
                network: *network,
                covers_sysctls: *covers_sysctls,
                platform: platform.clone(),
            };
            match works(&settings) {
                Ok(()) => return Ok(settings),
                // It is the platform that hangs, whatever the network.
                Err(Failure::Hangs(limit)) => {
                    last = Some(format!("no end after {} s", limit.as_secs()));
                    break;
                }
                Err(Failure::Ends(words)) => last = Some(words),
            }
        }
        // What the build's own choice says is what a person can do something about.
        problem = problem.or(last);
    }
    let problem = problem.unwrap_or_else(|| SILENT.to_owned());
    Err(format!("a trial sandbox does not run: {problem}"))
}

/// What is said of a trial that left no word.
const SILENT: &str = "it fails without a word";

/// How a trial failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// It didn't end within this time.
    Hangs(Duration),
    /// It ended with this to say.
    Ends(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Ends(error.to_string())
    }
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

/// Runs a sandbox whose only process ends at once; within the limit, or it hangs.
fn try_out(
    binary: &Path,
    args: &[String],
    settings: &GvisorSettings,
    limit: Duration,
) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("berth-trial-").tempdir()?;
    bundle(dir.path())?;
    let mut command = RuntimeCommand::new(RuntimeKind::Runsc, binary, dir.path().join("root"));
    command.network = settings.network;
    command.covers_sysctls = settings.covers_sysctls;
    command.platform.clone_from(&settings.platform);
    command.args = args.to_vec();
    command.args.push("--ignore-cgroups".to_owned());
    let (log, words) = (dir.path().join("log"), dir.path().join("words"));
    let id = format!("berth-trial-{}", hex::encode(rand::random::<[u8; 6]>()));
    let call = |verb: &str, rest: &[&str]| {
        // Not /dev/null: runsc gives its streams to the user that the sandbox runs as.
        let (nothing, _) = std::io::pipe()?;
        let words = File::create(&words)?;
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
        wait(&mut child, limit)
    };
    let bundle = dir.path().to_string_lossy().into_owned();
    let ended = call("run", &["--bundle", &bundle, &id])?;
    if ended == Some(0) {
        return Ok(());
    }
    // Before the next call writes over them.
    let said = said(&log, &words);
    let _ = call("delete", &["--force", &id]);
    Err(match ended {
        Some(_) => Failure::Ends(said),
        None => Failure::Hangs(limit),
    })
}

/// Runs it to its end, or kills it after the limit.
fn wait(command: &mut Command, limit: Duration) -> std::io::Result<Option<i32>> {
    let mut child = command.spawn()?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        if Instant::now() > end {
            // What it has started hangs with it.
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The most of a runtime's own words that is repeated.
const WORDS_LIMIT: usize = 512;

/// What a runtime has to say of its failure: the last error in its log of JSON lines; without one what it printed first,
/// which is where a build says that it doesn't know a flag (and then how it is used).
fn said(log: &Path, words: &Path) -> String {
    #[derive(serde::Deserialize)]
    struct Line {
        msg: String,
        #[serde(default)]
        level: String,
    }
    let logged = read(log);
    let lines: Vec<Line> = logged
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let errors = lines
        .iter()
        .rev()
        .find(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic"));
    let line = errors
        .or(lines.last())
        .map(|line| line.msg.clone())
        .or_else(|| {
            let printed = read(words);
            let first = printed.lines().map(str::trim).find(|line| !line.is_empty());
            first.map(str::to_owned)
        });
    line.map_or_else(|| SILENT.to_owned(), |line| in_one_line(&line))
}

/// The beginning of a file that a program under trial has written; as much as is repeated fits in it.
fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    // A program that wrote nothing may have made no file.
    let _ = File::open(file).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Words of others, as they may go into a table, an annotation and a log.
pub(super) fn in_one_line(words: &str) -> String {
    let clean = words.split_whitespace().collect::<Vec<_>>().join(" ");
    clean
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS_LIMIT)
        .collect()
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
            works(settings)
                .then_some(())
                .ok_or_else(|| Failure::Ends("no".to_owned()))
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

    #[test]
    fn a_platform_that_hangs_is_not_tried_with_every_network() {
        let build = build(&["systrap", "ptrace"]);
        let tried = std::cell::RefCell::new(Vec::new());
        let works = |settings: &GvisorSettings| {
            tried.borrow_mut().push(settings.platform.clone());
            match settings.platform {
                None => Err(Failure::Hangs(LIMIT)),
                Some(_) => Err(Failure::Ends("no ptrace".to_owned())),
            }
        };
        let error = choose(&[], &build, works).unwrap_err();
        assert_eq!(
            error, "a trial sandbox does not run: no end after 10 s",
            "what the build's own platform says comes first"
        );
        let tried = tried.into_inner();
        assert_eq!(
            tried.iter().filter(|platform| platform.is_none()).count(),
            1
        );
        assert_eq!(tried.len(), 4);
    }

    #[test]
    fn what_is_late_for_one_limit_is_in_time_for_another() {
        let slow = || {
            let mut command = Command::new("sleep");
            command.arg("0.3").process_group(0);
            command
        };
        let limit = Duration::from_millis(50);
        assert_eq!(wait(&mut slow(), limit).unwrap(), None);
        assert_eq!(wait(&mut slow(), PATIENT_LIMIT).unwrap(), Some(0));
    }

    #[test]
    fn the_runtimes_own_words_are_found_wherever_it_left_them() {
        let dir = tempfile::tempdir().unwrap();
        let (log, words) = (dir.path().join("log"), dir.path().join("words"));
        assert_eq!(said(&log, &words), SILENT);
        // As a build says it that doesn't know a flag: on its standard error, before it has a log.
        std::fs::write(
            &words,
            "\nflag provided but not defined: -nosuch\nUsage: runsc <flags>\n",
        )
        .unwrap();
        assert_eq!(said(&log, &words), "flag provided but not defined: -nosuch");
        let lines = "{\"msg\":\"unknown platform: systrap\",\"level\":\"error\"}\n{\"msg\":\"bye\",\"level\":\"info\"}\nno json\n";
        std::fs::write(&log, lines).unwrap();
        assert_eq!(said(&log, &words), "unknown platform: systrap");
        std::fs::write(&log, "{\"msg\":\"no\\nsuch luck\"}").unwrap();
        assert_eq!(said(&log, &words), "no such luck");
        std::fs::write(&log, format!("{{\"msg\":\"{}\"}}", "x".repeat(4096))).unwrap();
        assert_eq!(said(&log, &words).len(), WORDS_LIMIT);
    }
}
