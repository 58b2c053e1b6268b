//! The data directory: whose it is, and that one process uses it at a time.
//!
//! ```text
//! <data-dir>/
//!   berth.json        marks the directory as ours: format, and what was chosen for it at first
//!   uses.json         what of the machine it was used with: run directories, bridges
//!   lock              held while a berth runs; holds its process id
//!   admin.kubeconfig  for the cluster's admin
//!   server/           objects and certificates
//!   node/             the node agent's volumes and state
//!   cri/              images, snapshots, records of containers
//!   log/pods/         container logs, unless it is the default directory
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Format of the directory that this build reads and writes.
const FORMAT: u32 = 1;
/// How long a start waits for a lock whose process is gone. A process that is killed between the fork and the exec of a child
/// leaves the lock to that child until it executes its program, which closes it.
const ORPHANED_LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a start looks whether such a lock is free.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Where a data directory is when nobody says otherwise.
pub(crate) const DEFAULT: &str = "/var/lib/berth";

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub(crate) enum DataDirError {
    /// Something there is not ours.
    #[error(
        "{} is not a berth data directory: it holds {found:?} and no berth.json. Nothing was touched; \
         name an empty or new directory with --data-dir", dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// It is no directory.
    #[error("{} is not a directory; name another one with --data-dir", dir.display())]
    NotADirectory {
        /// What was named.
        dir: PathBuf,
    },
    /// Somebody else owns it.
    #[error(
        "{} belongs to user {owner}, but berth runs as user {me}: chown it, or name another directory with \
         --data-dir", dir.display()
    )]
    Owner {
        /// The directory.
        dir: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// Anybody may have put there what is in it.
    #[error(
        "{} can be written by every user of this machine (mode {mode:o}), so what is in it may be anybody's. Nothing was \
         touched; name another directory with --data-dir", dir.display()
    )]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The marker can't be understood.
    #[error(
        "{} is damaged ({reason}). Put it back from a backup, or move the directory away and start with a new one",
        path.display()
    )]
    Damaged {
        /// The marker.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer berth wrote it.
    #[error(
        "{} was written by a newer berth (format {found}; this one knows up to {FORMAT}). Use that berth, \
         or name another directory with --data-dir", dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process uses it.
    #[error(
        "{} is in use by another berth (process {pid}). Stop that one first (kill {pid}), or name another \
         directory with --data-dir", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, as it wrote itself.
        pid: String,
    },
    /// The system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// What is chosen when the directory is made, and stays.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    /// Format of the directory.
    pub(crate) format: u32,
    /// Interface name of the pods' bridge.
    pub(crate) bridge: String,
    /// Addresses of the pods.
    pub(crate) pod_cidr: String,
}

/// What of the machine a data directory was used with, by flags that a reset need not be given again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Uses {
    /// Run directories, absolute.
    pub(crate) run_dirs: BTreeSet<PathBuf>,
    /// Interface names of the pods' bridge.
    pub(crate) bridges: BTreeSet<String>,
}

/// What a directory was used with; `None` when an older berth has not noted it.
///
/// # Errors
/// When the note can't be read.
pub(crate) fn uses(dir: &Path) -> Result<Option<Uses>, DataDirError> {
    let path = dir.join(USES);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", &path)(source)),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| DataDirError::Damaged {
            path,
            reason: error.to_string(),
        })
}

/// The file of [`Uses`].
const USES: &str = "uses.json";

/// A data directory that is ours alone until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    dir: PathBuf,
    marker: Marker,
    _lock: Flock<File>,
}

/// Whether there is nothing at all yet: no directory, or an empty one.
///
/// # Errors
/// When it is somebody else's, or can't be read.
pub(crate) fn is_absent(dir: &Path) -> Result<bool, DataDirError> {
    check(dir)?;
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("read the data directory", dir)(error)),
    }
}

impl DataDir {
    /// Takes the directory, making it when it isn't there. `fresh` gives the marker of a new one.
    ///
    /// # Errors
    /// Each with a message that says what to do; nothing is changed then.
    pub(crate) fn open(dir: &Path, fresh: impl FnOnce() -> Marker) -> Result<Self, DataDirError> {
        check(dir)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io_error("make the data directory", dir))?;
        let dir = dir
            .canonicalize()
            .map_err(io_error("resolve the data directory", dir))?;
        let lock = lock(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
            .map_err(io_error("restrict the data directory", &dir))?;
        let marker = match read_marker(&dir)? {
            Some(marker) => marker,
            None => {
                let marker = fresh();
                write_marker(&dir, &marker)?;
                marker
            }
        };
        Ok(Self {
            dir,
            marker,
            _lock: lock,
        })
    }

    /// The directory, absolute.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Notes what of the machine it is used with, for a reset.
    ///
    /// # Errors
    /// When the note can't be read or written.
    pub(crate) fn note_use(&self, run_dir: &Path, bridge: &str) -> Result<(), DataDirError> {
        let known = uses(&self.dir)?;
        let mut now = known.clone().unwrap_or_default();
        let absolute = std::path::absolute(run_dir);
        now.run_dirs
            .insert(absolute.unwrap_or_else(|_| run_dir.to_owned()));
        now.bridges.insert(bridge.to_owned());
        if known.as_ref() == Some(&now) {
            return Ok(());
        }
        write_json(&self.dir, USES, &now)
    }

    /// What was chosen for it when it was made.
    #[must_use]
    pub(crate) fn marker(&self) -> &Marker {
        &self.marker
    }
}

/// The marker of a directory, `None` where there is none yet.
///
/// # Errors
/// When it is damaged or of a newer berth.
pub(crate) fn read_marker(dir: &Path) -> Result<Option<Marker>, DataDirError> {
    let path = dir.join("berth.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", &path)(source)),
    };
    let damaged = |error: serde_json::Error| DataDirError::Damaged {
        path: path.clone(),
        reason: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
    let found = value["format"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0);
    if found > FORMAT {
        return Err(DataDirError::Newer {
            dir: dir.to_owned(),
            found,
        });
    }
    serde_json::from_value(value).map(Some).map_err(damaged)
}

/// A marker of this build's format.
#[must_use]
pub(crate) fn marker(bridge: String, pod_cidr: String) -> Marker {
    Marker {
        format: FORMAT,
        bridge,
        pod_cidr,
    }
}

fn write_marker(dir: &Path, marker: &Marker) -> Result<(), DataDirError> {
    write_json(dir, "berth.json", marker)
}

/// Writes a file whole or not at all.
fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), DataDirError> {
    let (path, part) = (dir.join(name), dir.join(format!("{name}.part")));
    let write = || {
        let mut file = File::create(&part)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.sync_all()?;
        fs::rename(&part, &path)
    };
    write().map_err(io_error("write", &path))
}

fn check(dir: &Path) -> Result<(), DataDirError> {
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("look at", dir)(source)),
    };
    if !metadata.is_dir() {
        return Err(DataDirError::NotADirectory {
            dir: dir.to_owned(),
        });
    }
    let me = nix::unistd::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(DataDirError::Owner {
            dir: dir.to_owned(),
            owner: metadata.uid(),
            me,
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let mut entries = fs::read_dir(dir).map_err(io_error("list", dir))?;
    if mode & 0o002 != 0 && entries.next().is_some() {
        return Err(DataDirError::Open {
            dir: dir.to_owned(),
            mode,
        });
    }
    if read_marker(dir)?.is_some() {
        return Ok(());
    }
    // What an interrupted first start leaves, and what a fresh file system has, is no reason to refuse.
    let harmless = ["lock", "berth.json.part", "lost+found"];
    let entries = fs::read_dir(dir).map_err(io_error("list", dir))?;
    for entry in entries {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !harmless.contains(&name.as_str()) {
            return Err(DataDirError::Foreign {
                dir: dir.to_owned(),
                found: name,
            });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<Flock<File>, DataDirError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(io_error("open", &path))?;
    let mut file = file;
    let deadline = Instant::now() + ORPHANED_LOCK_TIMEOUT;
    let mut held = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => break held,
            Err((mut other, nix::errno::Errno::EWOULDBLOCK)) => {
                let holder = read_holder(&mut other).map_err(io_error("read", &path))?;
                if holder.is_none_or(is_running) || Instant::now() >= deadline {
                    return Err(DataDirError::InUse {
                        dir: dir.to_owned(),
                        pid: holder.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
                    });
                }
                file = other;
            }
            Err((_, errno)) => return Err(io_error("lock", &path)(errno.into())),
        }
        std::thread::sleep(LOCK_RETRY_INTERVAL);
    };
    let mut write = || {
        held.set_len(0)?;
        held.rewind()?;
        writeln!(held, "{}", std::process::id())
    };
    write().map_err(io_error("write", &path))?;
    Ok(held)
}

/// The process that wrote itself into the lock file; `None` where nothing, or something else, stands there.
fn read_holder(lock: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    lock.rewind()?;
    lock.take(32).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

/// Whether there is such a process, and it has not ended.
fn is_running(pid: u32) -> bool {
    // The name, in parentheses, may have anything in it; behind it stands the state (proc(5)).
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.trim_start().chars().next());
        !matches!(state, Some('Z' | 'X'))
    })
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Marker {
        marker("berth0".into(), "10.88.0.0/16".into())
    }

    #[test]
    fn a_new_directory_is_marked_and_private() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let held = DataDir::open(&dir, fresh).unwrap();
        assert_eq!(held.marker(), &fresh());
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
        drop(held);
        let other = || marker("other".into(), String::new());
        assert_eq!(
            DataDir::open(&dir, other).unwrap().marker().bridge,
            "berth0"
        );
    }

    #[test]
    fn a_second_holder_is_told_the_first_ones_process() {
        let temp = tempfile::tempdir().unwrap();
        let _held = DataDir::open(temp.path(), fresh).unwrap();
        let error = DataDir::open(temp.path(), fresh).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(error.contains(&process), "{error}");
    }

    #[test]
    fn a_lock_that_a_dead_process_left_to_its_child_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let held = DataDir::open(temp.path(), fresh).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        fs::write(temp.path().join("lock"), format!("{}\n", ended.id())).unwrap();
        ended.wait().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| DataDir::open(temp.path(), fresh).map(|_| ()));
            // Once its thread runs, it finds the lock held: nobody but this test lets it go.
            while !second.is_finished() && !waits(temp.path()) {
                std::thread::yield_now();
            }
            assert!(!second.is_finished(), "taken, or refused, while it is held");
            drop(held);
            second.join().unwrap().unwrap();
        });
    }

    /// Whether two descriptors of this process hold the lock file open.
    fn waits(dir: &Path) -> bool {
        let lock = dir.join("lock");
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == lock))
            .count()
            == 2
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("thesis.tex"), "years of work").unwrap();
        let error = DataDir::open(temp.path(), fresh).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { ref found, .. } if found == "thesis.tex"));
        assert!(!temp.path().join("lock").exists());
    }

    #[test]
    fn what_anybody_can_have_put_there_is_not_taken_for_ours() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("shared");
        fs::create_dir(&dir).unwrap();
        let victim = temp.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        let open = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        // A marker of somebody's, and a link that the lock would be written through.
        write_marker(&dir, &fresh()).unwrap();
        std::os::unix::fs::symlink(&victim, dir.join("lock")).unwrap();
        open(0o1777);
        let error = DataDir::open(&dir, fresh).unwrap_err();
        assert!(
            matches!(error, DataDirError::Open { mode: 0o1777, .. }),
            "{error}"
        );
        open(0o700);
        DataDir::open(&dir, fresh).unwrap_err();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    }

    #[test]
    fn a_damaged_or_newer_marker_is_named() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("berth.json"), "{\"format\": 1").unwrap();
        let error = DataDir::open(temp.path(), fresh).unwrap_err();
        assert!(matches!(error, DataDirError::Damaged { .. }), "{error}");
        fs::write(temp.path().join("berth.json"), "{\"format\": 7}").unwrap();
        let error = DataDir::open(temp.path(), fresh).unwrap_err();
        assert!(
            matches!(error, DataDirError::Newer { found: 7, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_no_directory() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("f");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file, fresh).unwrap_err();
        assert!(
            matches!(error, DataDirError::NotADirectory { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_a_directory_is_used_with_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let held = DataDir::open(temp.path(), fresh).unwrap();
        assert_eq!(uses(held.path()).unwrap(), None, "an older berth's");
        held.note_use(Path::new("/run/a"), "br-a").unwrap();
        held.note_use(Path::new("/run/b"), "br-a").unwrap();
        held.note_use(Path::new("/run/b"), "br-a").unwrap();
        let noted = uses(held.path()).unwrap().unwrap();
        assert_eq!(noted.run_dirs.len(), 2);
        assert_eq!(noted.bridges.len(), 1);
        fs::write(held.path().join(USES), "{").unwrap();
        let error = uses(held.path()).unwrap_err().to_string();
        assert!(error.contains("uses.json is damaged"), "{error}");
    }
}
