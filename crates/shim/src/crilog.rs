//! The CRI's log format: `TIME STREAM TAG TEXT`, one line each; `P` marks a line that goes on, `F` its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::stream::Kind;

/// Longest text of one entry; longer lines are cut into partial ones.
const MAX_LINE: usize = 16 * 1024;

/// Writes one container's log file.
#[derive(Debug)]
pub(crate) struct CriLog {
    path: PathBuf,
    file: File,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    batch: Vec<u8>,
    second: (u64, String),
}

impl CriLog {
    /// Opens the file for appending, and makes it (and its directory) when it isn't there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            stdout: Vec::new(),
            stderr: Vec::new(),
            batch: Vec::new(),
            second: (u64::MAX, String::new()),
        })
    }

    /// Opens the path anew, after the old file was renamed. Half a line in hand goes on in the new file.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Adds output. Whole lines reach the file before this returns; a rest is kept until its newline comes.
    pub(crate) fn write(&mut self, kind: Kind, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let newline = data.iter().position(|b| *b == b'\n');
            let end = newline.unwrap_or(data.len());
            let mut pending = std::mem::take(self.pending(kind));
            let mut text = data.get(..end).unwrap_or_default();
            while pending.len() + text.len() > MAX_LINE {
                let (now, later) = text.split_at(MAX_LINE - pending.len());
                self.entry(kind, b'P', &pending, now);
                pending.clear();
                text = later;
            }
            if newline.is_some() {
                self.entry(kind, b'F', &pending, text);
                pending.clear();
                pending.shrink_to(1024);
            } else {
                pending.extend_from_slice(text);
            }
            *self.pending(kind) = pending;
            data = data
                .get(newline.map_or(end, |n| n + 1)..)
                .unwrap_or_default();
        }
        self.flush()
    }

    /// The stream has ended: a rest without newline is written as a partial line, as everybody does.
    pub(crate) fn finish(&mut self, kind: Kind) -> io::Result<()> {
        let pending = std::mem::take(self.pending(kind));
        if !pending.is_empty() {
            self.entry(kind, b'P', &pending, b"");
        }
        self.flush()
    }

    fn pending(&mut self, kind: Kind) -> &mut Vec<u8> {
        match kind {
            Kind::Stderr => &mut self.stderr,
            Kind::Stdout | Kind::Stdin => &mut self.stdout,
        }
    }

    fn entry(&mut self, kind: Kind, tag: u8, head: &[u8], tail: &[u8]) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if self.second.0 != now.as_secs() {
            let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
            let text = jiff::Timestamp::from_second(seconds)
                .unwrap_or_default()
                .to_string();
            self.second = (now.as_secs(), text.trim_end_matches('Z').to_owned());
        }
        let stream = match kind {
            Kind::Stderr => "stderr",
            Kind::Stdout | Kind::Stdin => "stdout",
        };
        // Writing to a Vec can't fail.
        let _ = write!(
            self.batch,
            "{}.{:09}Z {stream} ",
            self.second.1,
            now.subsec_nanos()
        );
        self.batch.extend_from_slice(&[tag, b' ']);
        self.batch.extend_from_slice(head);
        self.batch.extend_from_slice(tail);
        self.batch.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.batch);
        self.batch.clear();
        self.batch.shrink_to(64 * 1024);
        result
    }
}

/// How many parts at the end of a log's path are the pod's: its directory, the container's, and the file.
const OF_POD: usize = 3;

/// Opens a log file for appending; what is missing is made.
///
/// A pod that mounts the node's log directory can put links and devices where its log goes, and whoever follows them
/// writes its lines into the node's files. So no link is followed below the directory of all pods' logs (which may be
/// reached by one: that is the administrator's), and the file is a regular one.
fn open(path: &Path) -> io::Result<File> {
    let base = path
        .ancestors()
        .take(OF_POD + 1)
        .last()
        .filter(|base| !base.as_os_str().is_empty())
        .unwrap_or(Path::new("/"));
    let parts: Vec<&OsStr> = path
        .strip_prefix(base)
        .unwrap_or(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => Err(refused("its path is not plain")),
        })
        .collect::<io::Result<_>>()?;
    let Some((file, folders)) = parts.split_last() else {
        return Err(refused("its path names no file"));
    };
    std::fs::create_dir_all(base)?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(base, folder, Mode::empty())?;
    for name in folders {
        match rustix::fs::mkdirat(&dir, *name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        dir = within(&dir, name, folder, Mode::empty())?;
    }
    // Looked at before it is opened: opening alone does something to some devices.
    match within(&dir, file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(found) => regular(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let append =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = within(&dir, file, append, Mode::from_raw_mode(0o640))?;
    regular(&opened)?;
    Ok(File::from(opened))
}

/// Opens a name in a directory that is no link.
fn within(dir: &OwnedFd, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, name, flags, mode, resolve).map_err(|errno| match errno {
        Errno::LOOP => refused("a symbolic link is in its path"),
        errno => errno.into(),
    })
}

fn regular(file: &OwnedFd) -> io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(refused("it is not a regular file")),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("not opened: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(path: &Path) -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(path).expect("read");
        text.lines()
            .map(|l| {
                let mut fields = l.splitn(4, ' ');
                let time = fields.next().expect("time");
                time.parse::<jiff::Timestamp>().expect("RFC 3339");
                assert_eq!(time.len(), "2024-01-01T00:00:00.000000000Z".len());
                let mut next = || fields.next().expect("field").to_owned();
                (next(), next(), next())
            })
            .collect()
    }

    #[test]
    fn lines_partials_and_both_streams() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("pod/0.log");
        let mut log = CriLog::open(&path).expect("open");
        log.write(Kind::Stdout, b"one\ntw").expect("write");
        log.write(Kind::Stderr, b"oops\n").expect("write");
        log.write(Kind::Stdout, b"o\n\nrest").expect("write");
        log.finish(Kind::Stdout).expect("finish");
        log.finish(Kind::Stderr).expect("finish");
        let got = entries(&path);
        let want = [
            ("stdout", "F", "one"),
            ("stderr", "F", "oops"),
            ("stdout", "F", "two"),
            ("stdout", "F", ""),
            ("stdout", "P", "rest"),
        ];
        let want: Vec<_> = want
            .iter()
            .map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string()))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn long_lines_are_cut_at_16_kib_wherever_the_reads_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        for step in [1000, 16384, 40000] {
            let path = dir.path().join(format!("{step}.log"));
            let mut log = CriLog::open(&path).expect("open");
            let line = [
                vec![b'x'; 40_000],
                b"\n".to_vec(),
                vec![b'y'; 16_384],
                b"\n".to_vec(),
            ]
            .concat();
            for part in line.chunks(step) {
                log.write(Kind::Stdout, part).expect("write");
            }
            let got: Vec<_> = entries(&path)
                .into_iter()
                .map(|(_, tag, text)| (tag, text.len()))
                .collect();
            let want: Vec<_> = [("P", 16384), ("P", 16384), ("F", 7232), ("F", 16384)]
                .iter()
                .map(|(t, n)| (t.to_string(), *n))
                .collect();
            assert_eq!(got, want, "read by {step}");
        }
    }

    #[test]
    fn a_renamed_file_is_left_behind_on_reopen() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
        let mut log = CriLog::open(&path).expect("open");
        log.write(Kind::Stdout, b"a\nb").expect("write");
        std::fs::rename(&path, &old).expect("rename");
        log.write(Kind::Stdout, b"c\nd").expect("write");
        log.reopen().expect("reopen");
        log.write(Kind::Stdout, b"e\n").expect("write");
        let texts = |p| entries(p).into_iter().map(|e| e.2).collect::<Vec<_>>();
        assert_eq!(texts(&old), ["a", "bc"]);
        assert_eq!(texts(&path), ["de"]);
    }

    #[test]
    fn links_and_devices_that_a_pod_planted_are_not_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("tempdir");
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).expect("directory");
        std::fs::write(outside.join("secret"), "kept").expect("write");
        let pods = dir.path().join("pods");
        std::fs::create_dir_all(pods.join("pod/c")).expect("directory");
        let refused = |path: &Path| {
            let error = CriLog::open(path).map(drop).expect_err("refused");
            assert!(
                error.to_string().contains("not opened"),
                "{path:?}: {error}"
            );
        };
        // The file, the container's directory, the pod's.
        symlink("../../../outside/secret", pods.join("pod/c/0.log")).expect("link");
        refused(&pods.join("pod/c/0.log"));
        symlink(outside.join("new"), pods.join("pod/c/1.log")).expect("link");
        refused(&pods.join("pod/c/1.log"));
        symlink("../../outside", pods.join("pod/link")).expect("link");
        refused(&pods.join("pod/link/secret"));
        symlink("../outside", pods.join("podlink")).expect("link");
        refused(&pods.join("podlink/c/0.log"));
        refused(&pods.join("pod/c/../0.log"));
        nix::unistd::mkfifo(&pods.join("pod/c/2.log"), nix::sys::stat::Mode::S_IRWXU)
            .expect("FIFO");
        refused(&pods.join("pod/c/2.log"));
        let left: Vec<_> = std::fs::read_dir(&outside).expect("list").collect();
        assert_eq!(left.len(), 1);
        assert_eq!(
            std::fs::read_to_string(outside.join("secret")).expect("read"),
            "kept"
        );
        // A link planted later is noticed when the log is opened anew.
        let path = pods.join("pod/c/3.log");
        let mut log = CriLog::open(&path).expect("open");
        std::fs::remove_file(&path).expect("remove");
        symlink(outside.join("secret"), &path).expect("link");
        log.reopen().expect_err("refused");
        // The directory of all logs may be behind a link of the administrator's.
        symlink(&pods, dir.path().join("logs")).expect("link");
        CriLog::open(&dir.path().join("logs/other/c/0.log")).expect("open");
        assert!(pods.join("other/c/0.log").is_file());
    }
}
