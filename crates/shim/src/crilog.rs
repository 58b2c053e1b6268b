//! The CRI's log format: `TIME STREAM TAG TEXT`, one line each; `P` marks a line that goes on, `F` its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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

fn open(path: &Path) -> io::Result<File> {
    let options = || {
        let mut o = OpenOptions::new();
        o.append(true).create(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut o, 0o640);
        o
    };
    match options().open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            options().open(path)
        }
        other => other,
    }
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
}
