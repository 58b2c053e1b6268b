//! The node's files and programs, seen from a container that has the node's root somewhere.
//!
//! Links are followed as the node would: nothing leads out of its root. What root runs there has to be root's.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use berth_installer::layout::Files;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

/// A configuration is no larger.
const FILE_BYTES: u64 = 8 << 20;
/// A file of others is touched when it has not been written for so long.
const SETTLED: Duration = Duration::from_secs(2);
/// So many links are followed, as by the kernel.
const LINKS_MAX: u32 = 40;
/// How long a program of the node may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);

/// A program did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("it did not end within {} s", PROGRAM_LIMIT.as_secs())]
pub(crate) struct Unended;

/// The node.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Where its root is.
    root: PathBuf,
    /// Whether programs are run among the processes' own mounts of the node (PID 1's), which needs its PID namespace.
    enters: bool,
}

impl Host {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            enters: root != Path::new("/"),
        }
    }

    /// Where a path of the node is for us, with all links followed.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let found = self.open(path)?;
        fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
    }

    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let root = open(
            &self.root,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(root, path, how)?)
    }

    /// Where a file that may be missing is for us.
    fn place(&self, path: &Path) -> io::Result<PathBuf> {
        match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(error);
                };
                Ok(self.resolve(folder)?.join(name))
            }
            other => other,
        }
    }

    /// A file's text; none where there is none.
    pub(crate) fn read_text(&self, path: &Path) -> anyhow::Result<Option<String>> {
        let read = || -> io::Result<String> {
            let place = self.resolve(path)?;
            if fs::metadata(&place)?.len() > FILE_BYTES {
                return Err(io::Error::other("it is larger than 8 MiB"));
            }
            fs::read_to_string(place)
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {} of the node", path.display()))
            }
        }
    }

    /// Writes a file whole or not at all; who may read it stays as it was.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let what = || format!("cannot write {} of the node", path.display());
        let folder = path
            .parent()
            .context("it has no folder")
            .with_context(what)?;
        self.make_folder(folder)?;
        let place = self.place(path).with_context(what)?;
        let old = match fs::metadata(&place) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(what),
        };
        let mode = old
            .as_ref()
            .map_or(mode, |found| found.permissions().mode() & 0o7777);
        let folder = place
            .parent()
            .context("it has no folder")
            .with_context(what)?;
        // No name that a glob of configurations matches.
        let (path, mut file) = tempfile_in(folder).with_context(what)?;
        let mut fill = || -> io::Result<()> {
            file.write_all(bytes)?;
            // Whoever may read the old one may read the new one, at no moment anybody else.
            if let Some(old) = &old {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&path, &place)
        };
        let moved = fill();
        if moved.is_err() {
            let _gone = fs::remove_file(&path);
        }
        moved.with_context(what)?;
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(what)
    }

    /// Makes a folder and those above it, root's alone to write.
    pub(crate) fn make_folder(&self, path: &Path) -> anyhow::Result<()> {
        if self.resolve(path).is_ok() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.make_folder(above)?;
        }
        let what = || format!("cannot make the folder {} of the node", path.display());
        let place = self.place(path).with_context(what)?;
        match fs::create_dir(&place) {
            Ok(()) => {
                fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).with_context(what)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).with_context(what),
        }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, path: &Path) -> anyhow::Result<()> {
        let removed = self.resolve(path).and_then(fs::remove_file);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {} of the node", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes a folder, if it is there and empty.
    pub(crate) fn remove_folder(&self, path: &Path) {
        let _full_or_gone = self.resolve(path).and_then(fs::remove_dir);
    }

    /// The names in a folder, sorted; none where there is none.
    pub(crate) fn names(&self, folder: &Path) -> Vec<String> {
        let entries = self.resolve(folder).and_then(fs::read_dir);
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether nobody has written a file in the last seconds: who writes it anew may not be done.
    pub(crate) fn is_settled(&self, path: &Path) -> bool {
        let written = self
            .resolve(path)
            .and_then(fs::metadata)
            .and_then(|found| found.modified());
        written.map_or(true, |written| {
            written.elapsed().is_ok_and(|since| since >= SETTLED)
        })
    }

    /// What tells a file from another one in its place: device, inode, size, time of change.
    pub(crate) fn identity(&self, path: &Path) -> Option<[i64; 5]> {
        let found = self.resolve(path).and_then(fs::metadata).ok()?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Some([
            number(found.dev()),
            number(found.ino()),
            number(found.size()),
            found.mtime(),
            found.mtime_nsec(),
        ])
    }

    /// Whether a file of the node may be what root runs or follows: a file, and with all folders and links that lead to it root's
    /// alone to write. Gives its path with the links among the folders followed; its own name stays, by which a program may decide
    /// what it is.
    ///
    /// # Errors
    /// With what is not root's, or not there.
    pub(crate) fn check_roots(&self, path: &Path, is_program: bool) -> Result<PathBuf, String> {
        let Some(found) = self.walk(path)? else {
            return Err(format!("no {} on the node", path.display()));
        };
        let meta = fs::metadata(self.below(&found))
            .map_err(|error| format!("{}: {error}", found.display()))?;
        if !meta.is_file() || (is_program && meta.permissions().mode() & 0o111 == 0) {
            return Err(format!(
                "{} is no {}",
                found.display(),
                if is_program { "program" } else { "file" }
            ));
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("{} is no file", path.display()));
        };
        let folder = self.walk(folder)?;
        folder
            .map(|folder| folder.join(name))
            .ok_or_else(|| format!("no {} on the node", path.display()))
    }

    /// Whether a folder of the node is root's alone to write, with all folders and links that lead to it, as far as they are there.
    ///
    /// # Errors
    /// With what is not.
    pub(crate) fn check_folder(&self, path: &Path) -> Result<(), String> {
        let found = self.walk(path)?;
        match found {
            Some(found) if !self.below(&found).is_dir() => {
                Err(format!("{} is no folder", path.display()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A path of the node for us, when no link is in it.
    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows a path part by part, as the node would. What is followed is checked before it is: in folders that root alone can
    /// write nobody else can turn a part into another meanwhile. None where a part is missing.
    fn walk(&self, path: &Path) -> Result<Option<PathBuf>, String> {
        let mut at = PathBuf::from("/");
        let mut rest: Vec<OsString> = parts(path);
        let mut links = 0_u32;
        self.check_own(&at)?;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let place = self.below(&next);
            let found = match fs::symlink_metadata(&place) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(format!("{}: {error}", next.display())),
            };
            if !found.is_symlink() {
                self.check_own(&next)?;
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(format!("{}: too many links", path.display()));
            }
            let to =
                fs::read_link(&place).map_err(|error| format!("{}: {error}", next.display()))?;
            if to.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(parts(&to));
        }
        Ok(Some(at))
    }

    /// Whether a file or folder is root's alone to write. Not in a folder like /tmp either, where others can put what is missing.
    fn check_own(&self, path: &Path) -> Result<(), String> {
        let found = fs::metadata(self.below(path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let shown = path.display();
        if found.uid() != 0 {
            return Err(format!(
                "{shown} belongs to user {}, not to root, who would run it",
                found.uid()
            ));
        }
        if found.mode() & 0o022 != 0 {
            return Err(format!(
                "{shown} can be written by others than root, who would run it"
            ));
        }
        Ok(())
    }

    /// Runs a program of the node, without a shell.
    /// `called` is the name by which it is called, else its path.
    pub(crate) async fn run(
        &self,
        words: &[String],
        called: Option<&str>,
    ) -> anyhow::Result<Output> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = tokio::process::Command::new(program);
        if let Some(called) = called {
            command.arg0(called);
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.env_clear().env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin",
        );
        if self.enters {
            let mounts = fs::File::open("/proc/1/ns/mnt")
                .context("cannot open the node's mount namespace (is hostPID set?)")?;
            let mounts = OwnedFd::from(mounts);
            // SAFETY: between fork and exec there is one thread, and `setns` is a system call alone: it allocates nothing and takes
            // no lock. Its error is returned as a number.
            unsafe {
                command.pre_exec(move || Ok(setns(&mounts, CloneFlags::CLONE_NEWNS)?));
            }
        }
        let what = || words.join(" ");
        let ended = tokio::time::timeout(PROGRAM_LIMIT, command.output()).await;
        ended
            .map_err(|_| anyhow::Error::new(Unended))
            .and_then(|ended| Ok(ended?))
            .with_context(|| format!("cannot run {} on the node", what()))
    }

    /// Runs a program that has to succeed, and gives its output.
    pub(crate) async fn run_ok(&self, words: &[String]) -> anyhow::Result<String> {
        self.run_as(words, None).await
    }

    /// Runs a program by the name by which it is called, since it may be several in one.
    pub(crate) async fn run_as(
        &self,
        words: &[String],
        called: Option<&str>,
    ) -> anyhow::Result<String> {
        let ended = self.run(words, called).await?;
        if !ended.status.success() {
            let told = String::from_utf8_lossy(&ended.stderr);
            bail!(
                "{}: {}: {}",
                words.join(" "),
                ended.status,
                berth_installer::report::shortened(&told)
            );
        }
        String::from_utf8(ended.stdout)
            .with_context(|| format!("{}: its output is no text", words.join(" ")))
    }
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

/// A new file beside the others, which nobody else can have made.
fn tempfile_in(folder: &Path) -> io::Result<(PathBuf, fs::File)> {
    let name = format!(".berth-installer-{:016x}", rand::random::<u64>());
    let path = folder.join(name);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    Ok((path, file))
}

impl Files for Host {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        self.read_text(path).map_err(|error| format!("{error:#}"))
    }

    /// With patterns in the last part alone, as everybody has them; others are refused rather than read wrongly.
    fn matching(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        matching(self, pattern).map_err(|error| format!("{}: {error:#}", pattern.display()))
    }
}

fn matching(host: &Host, pattern: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = pattern.parent().context("it has no folder")?;
    let name = pattern
        .file_name()
        .and_then(|name| name.to_str())
        .context("it names no file")?;
    let special = ['*', '?', '[', '\\'];
    ensure!(
        !folder.to_string_lossy().contains(special),
        "patterns in folders' names are not supported"
    );
    if !name.contains(special) {
        return Ok(if host.resolve(pattern).is_ok() {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        });
    }
    let glob = CString::new(name)?;
    let names = host.names(folder).into_iter().filter(|found| {
        let Ok(found) = CString::new(found.as_str()) else {
            return false;
        };
        // SAFETY: both are strings with an end, and live until the call returns.
        unsafe { libc::fnmatch(glob.as_ptr(), found.as_ptr(), libc::FNM_PERIOD) == 0 }
    });
    Ok(names.map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn node() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host::new(dir.path());
        (dir, host)
    }

    #[test]
    fn links_stay_on_the_node() {
        let (dir, host) = node();
        host.write(Path::new("/etc/x/real.toml"), b"a", 0o600)
            .unwrap();
        symlink("/etc/x/real.toml", dir.path().join("etc/link.toml")).unwrap();
        symlink("/etc/passwd", dir.path().join("etc/out")).unwrap();
        assert_eq!(
            host.read_text(Path::new("/etc/link.toml"))
                .unwrap()
                .as_deref(),
            Some("a")
        );
        assert_eq!(host.read_text(Path::new("/etc/out")).unwrap(), None);
        assert_eq!(
            host.read_text(Path::new("/../../etc/hostname")).unwrap(),
            None
        );
        // A file behind a link is changed, and the link stays.
        host.write(Path::new("/etc/link.toml"), b"b", 0o644)
            .unwrap();
        assert!(dir.path().join("etc/link.toml").is_symlink());
        let real = dir.path().join("etc/x/real.toml");
        assert_eq!(fs::read_to_string(&real).unwrap(), "b");
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o600
        );
        host.remove(Path::new("/etc/x/real.toml")).unwrap();
        host.remove(Path::new("/etc/x/real.toml")).unwrap();
    }

    #[test]
    fn patterns_are_those_of_imports() {
        let (_dir, host) = node();
        for name in ["b.toml", "a.toml", ".hidden.toml", "x.txt"] {
            host.write(&Path::new("/c").join(name), b"", 0o644).unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = host.matching(Path::new(pattern)).unwrap();
            found
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(names("/c/*.toml"), ["/c/a.toml", "/c/b.toml"]);
        assert_eq!(
            (
                names("/c/a.toml").len(),
                names("/c/z.toml").len(),
                names("/d/*").len()
            ),
            (1, 0, 0)
        );
        assert!(host.matching(Path::new("/*/a.toml")).is_err());
    }

    #[test]
    fn what_root_runs_is_roots() {
        let (dir, host) = node();
        let path = Path::new("/usr/bin/runsc");
        let check = || host.check_roots(path, true);
        assert_eq!(check(), Err("no /usr/bin/runsc on the node".to_owned()));
        host.write(path, b"#!", 0o644).unwrap();
        assert_eq!(check(), Err("/usr/bin/runsc is no program".to_owned()));
        let mode = |part: &str, mode| {
            fs::set_permissions(dir.path().join(part), fs::Permissions::from_mode(mode)).unwrap()
        };
        mode("usr/bin/runsc", 0o755);
        assert_eq!(check().as_deref(), Ok(path));
        mode("usr/bin/runsc", 0o757);
        assert_eq!(
            check(),
            Err("/usr/bin/runsc can be written by others than root, who would run it".to_owned())
        );
        mode("usr/bin/runsc", 0o755);
        mode("usr/bin", 0o777);
        assert_eq!(
            check(),
            Err("/usr/bin can be written by others than root, who would run it".to_owned())
        );
        mode("usr/bin", 0o1777);
        assert_eq!(
            check(),
            Err("/usr/bin can be written by others than root, who would run it".to_owned())
        );
        mode("usr/bin", 0o755);
        std::os::unix::fs::chown(dir.path().join("usr/bin/runsc"), Some(1000), None).unwrap();
        assert_eq!(
            check(),
            Err("/usr/bin/runsc belongs to user 1000, not to root, who would run it".to_owned())
        );
        assert_eq!(
            host.check_roots(Path::new("/usr"), false),
            Err("/usr is no file".to_owned())
        );
    }

    #[test]
    fn links_to_what_root_runs_are_roots() {
        let (dir, host) = node();
        host.write(Path::new("/opt/real/shim"), b"#!", 0o755)
            .unwrap();
        host.make_folder(Path::new("/home/user")).unwrap();
        symlink("/opt/real", dir.path().join("home/user/link")).unwrap();
        symlink("home/user/link", dir.path().join("way")).unwrap();
        symlink("/opt/real/shim", dir.path().join("opt/name")).unwrap();
        let check = |path: &str| host.check_roots(Path::new(path), true);
        // The folder is resolved; by its own name a program may decide what it is.
        assert_eq!(
            check("/way/shim").as_deref(),
            Ok(Path::new("/opt/real/shim"))
        );
        assert_eq!(check("/opt/name").as_deref(), Ok(Path::new("/opt/name")));
        // A user whose folder is on the way could turn the link.
        std::os::unix::fs::chown(dir.path().join("home/user"), Some(1000), None).unwrap();
        assert_eq!(
            check("/way/shim"),
            Err("/home/user belongs to user 1000, not to root, who would run it".to_owned())
        );
        assert!(host.check_folder(Path::new("/way")).is_err());
        assert!(host.check_folder(Path::new("/home/user/new")).is_err());
        assert_eq!(host.check_folder(Path::new("/opt/new/one")), Ok(()));
        symlink("loop", dir.path().join("opt/loop")).unwrap();
        assert_eq!(
            check("/opt/loop"),
            Err("/opt/loop: too many links".to_owned())
        );
    }

    #[test]
    fn a_file_keeps_its_owner() {
        let (dir, host) = node();
        let path = Path::new("/etc/c.toml");
        host.write(path, b"a", 0o644).unwrap();
        let real = dir.path().join("etc/c.toml");
        std::os::unix::fs::chown(&real, Some(7), Some(8)).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        host.write(path, b"b", 0o644).unwrap();
        let found = fs::metadata(&real).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o777),
            (7, 8, 0o640)
        );
    }
}
