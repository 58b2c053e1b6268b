//! Whether a container that runc or crun has created was ever let go.
//!
//! The first process of such a container waits at a FIFO, `exec.fifo` in the runtime's state directory of it, and becomes the
//! container's program only when `start` has opened the other end. What has passed through a FIFO leaves its time of
//! modification behind, which otherwise is that of its making: so the FIFO says, also after the process' end, whether the
//! program can have run. The runtime's own state does not: for runc a container is created as long as the FIFO is there, and a
//! `runc start` that is killed leaves it there under a program that runs.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxFlags, statx};

use super::RuntimeOptions;

const FIFO: &str = "exec.fifo";
/// Where a runc from containerd's shim keeps its state.
const CONTAINERDS_ROOT: &str = "/run/containerd/runc";
/// Longer than the clock of file systems stands still.
const TICK: Duration = Duration::from_millis(20);

/// Whether a created container was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Its process waits, or waited until it died: no program of it has run.
    Withheld,
    /// Its program runs, has run, or is about to.
    Given,
    /// Its runtime has no such FIFO, or nothing of the container (any more).
    Unknown,
}

/// Looks at what the runtime has of container `id`. Blocks for some milliseconds. A [`Release::Withheld`] holds only as long as
/// nobody starts the container.
#[must_use]
pub fn look_at_release(options: &RuntimeOptions, namespace: &str, id: &str) -> Release {
    state_dir(options, namespace, id).map_or(Release::Unknown, |dir| look(&dir))
}

fn state_dir(options: &RuntimeOptions, namespace: &str, id: &str) -> Option<PathBuf> {
    match options {
        RuntimeOptions::Command(command) => Some(command.root.join(id)),
        RuntimeOptions::Runc { root, .. } => {
            let root = if root.is_empty() {
                CONTAINERDS_ROOT
            } else {
                root
            };
            Some(Path::new(root).join(namespace).join(id))
        }
        RuntimeOptions::Config { .. } | RuntimeOptions::None => None,
    }
}

fn look(dir: &Path) -> Release {
    match is_untouched(&dir.join(FIFO)) {
        Ok(true) if is_modification_noted(dir) => Release::Withheld,
        Ok(false) => Release::Given,
        // runc and crun remove it when they have started the container. Others that keep their state so never had one.
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_state(dir) => Release::Given,
        Ok(true) | Err(_) => Release::Unknown,
    }
}

/// Whether nothing has been written into a FIFO since it was made.
fn is_untouched(fifo: &Path) -> io::Result<bool> {
    let wanted = StatxFlags::TYPE | StatxFlags::MTIME | StatxFlags::BTIME;
    let found = statx(CWD, fifo, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let has = |flag: StatxFlags| found.stx_mask & flag.bits() != 0;
    if FileType::from_raw_mode(found.stx_mode.into()) != FileType::Fifo
        || !has(StatxFlags::MTIME)
        || !has(StatxFlags::BTIME)
    {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let [made, written] = [found.stx_btime, found.stx_mtime].map(|at| (at.tv_sec, at.tv_nsec));
    Ok(made == written)
}

/// Whether the file system notes that a FIFO was written into: overlayfs does not.
fn is_modification_noted(dir: &Path) -> bool {
    let probe = dir.join(format!(".berth-{}", rand::random::<u64>()));
    let noted = || -> io::Result<bool> {
        nix::unistd::mkfifo(&probe, nix::sys::stat::Mode::S_IRWXU)?;
        std::thread::sleep(TICK);
        let before = is_untouched(&probe)?;
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits();
        let mut file = std::fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags).unwrap_or_default())
            .open(&probe)?;
        file.write_all(b"0")?;
        Ok(before && !is_untouched(&probe)?)
    };
    let noted = noted().unwrap_or(false);
    // What can't be removed goes with the container.
    let _ = std::fs::remove_file(probe);
    noted
}

/// Whether the directory is one of runc's or of crun's.
fn has_state(dir: &Path) -> bool {
    let field = |file: &str, name: &str| {
        let text = std::fs::read(dir.join(file)).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        state.get(name).is_some()
    };
    field("state.json", "init_process_pid") || field("status", "process-start-time")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fifo(dir: &Path) -> PathBuf {
        let path = dir.join(FIFO);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::thread::sleep(TICK);
        path
    }

    fn pipe(path: &Path) -> fs::File {
        fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }

    #[test]
    fn only_what_passed_through_the_fifo_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&dir.path().join("none")), Release::Unknown);
        assert_eq!(look(dir.path()), Release::Unknown);
        let path = fifo(dir.path());
        // It is given to the container's root, and opened by whoever waits and by a `start` that dies at once.
        std::os::unix::fs::chown(&path, None, None).unwrap();
        drop(pipe(&path));
        assert_eq!(look(dir.path()), Release::Withheld);
        pipe(&path).write_all(b"0").unwrap();
        assert_eq!(look(dir.path()), Release::Given);
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left of the look");
    }

    #[test]
    fn a_fifo_that_is_gone_was_one_of_runcs_or_there_was_none() {
        for (file, text, expected) in [
            ("state.json", r#"{"init_process_pid":5}"#, Release::Given),
            ("status", r#"{"process-start-time":5}"#, Release::Given),
            ("state.json", r#"{"status":"created"}"#, Release::Unknown),
            ("state.json", "{", Release::Unknown),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(look(dir.path()), expected, "{file} {text}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FIFO), "").unwrap();
        assert_eq!(look(dir.path()), Release::Unknown);
    }

    #[test]
    fn each_runtimes_state_is_where_it_keeps_it() {
        let runc = |root: &str| RuntimeOptions::Runc {
            binary: String::new(),
            root: root.to_owned(),
            systemd_cgroup: false,
        };
        let dir = |options: &RuntimeOptions| state_dir(options, "k8s.io", "c");
        let expected = PathBuf::from("/run/containerd/runc/k8s.io/c");
        assert_eq!(dir(&runc("")), Some(expected));
        assert_eq!(dir(&runc("/r")), Some(PathBuf::from("/r/k8s.io/c")));
        assert_eq!(dir(&RuntimeOptions::None), None);
    }
}
