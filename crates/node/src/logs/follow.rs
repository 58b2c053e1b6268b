//! Reads a log from where the options say, and goes on while the container runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::unblock;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use super::tail::{Found, TailSearch};
use super::view::View;
use super::{Options, rotated};
use crate::pod_files::read_at;

const POLL: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 << 10;
/// More rotated files than this are not looked at; the agent itself keeps five.
const MOST_FILES: usize = 32;

/// The reader has what it wanted, or the log cannot be read any more.
struct Done;

impl From<io::Error> for Done {
    fn from(error: io::Error) -> Self {
        debug!(%error, "a log cannot be read to its end");
        Self
    }
}

/// Sends the log's text until its end (or, following, until `alive` says that no more will come and
/// everything was read), or until the receiver is gone.
pub(crate) async fn stream(
    log: PathBuf,
    options: Options,
    alive: impl Fn() -> bool + Send,
    out: mpsc::Sender<Bytes>,
) {
    let mut writer = Writer {
        view: View::new(options.clone()),
        out,
    };
    let Ok(end) = past(&log, &options, &mut writer).await else {
        return;
    };
    if options.follow {
        let _done = follow(&log, end, alive, &mut writer).await;
    }
}

/// A file of the log, and how far it was read.
#[derive(Clone)]
struct Source {
    file: Arc<File>,
    inode: u64,
    offset: u64,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let file = super::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self {
            file: Arc::new(file),
            inode,
            offset: 0,
        })
    }

    /// The bytes after what was read, at most a chunk.
    async fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let data = unblock(move || read_at(&file, offset, limit)).await?;
        self.offset += data.len() as u64;
        Ok(data)
    }

    /// Writes everything up to `end`.
    async fn copy(&mut self, end: u64, writer: &mut Writer) -> Result<(), Done> {
        while self.offset < end {
            let left = usize::try_from(end - self.offset).unwrap_or(CHUNK);
            let data = self.read(left.min(CHUNK)).await?;
            if data.is_empty() {
                break;
            }
            writer.write(&data).await?;
        }
        Ok(())
    }
}

/// The log's files, the newest first; what cannot be opened is left out.
fn sources(log: &Path) -> Vec<Source> {
    let old = rotated(log).into_iter().rev().take(MOST_FILES);
    std::iter::once(log.to_owned())
        .chain(old)
        .filter_map(|path| Source::open(&path).ok())
        .collect()
}

/// Writes what is there already; gives the newest file, where there is one.
async fn past(log: &Path, options: &Options, writer: &mut Writer) -> Result<Option<Source>, Done> {
    let path = log.to_owned();
    let mut parts = unblock(move || sources(&path)).await;
    if let Some(mut wanted) = options.tail {
        // From the newest file back, until the tail is long enough.
        let mut used = 0;
        for part in &mut parts {
            let lines = find_tail(part, wanted, &writer.out).await?;
            wanted = wanted.saturating_sub(lines);
            used += 1;
            if wanted == 0 {
                break;
            }
        }
        parts.truncate(used);
    }
    let newest = parts.len().saturating_sub(1);
    let mut last = None;
    for (index, mut part) in parts.into_iter().rev().enumerate() {
        // What is written while this is sent is for those who follow.
        let end = part.file.metadata()?.len();
        part.copy(end, writer).await?;
        if index < newest {
            writer.next_file().await?;
        }
        last = Some(part);
    }
    Ok(last)
}

/// Moves the source to its last lines; gives how many these are.
async fn find_tail(
    source: &mut Source,
    wanted: usize,
    out: &mpsc::Sender<Bytes>,
) -> Result<usize, Done> {
    let mut search = TailSearch::new(&source.file, wanted)?;
    loop {
        let file = Arc::clone(&source.file);
        let (next, found) = unblock(move || {
            let found = search.step(&file);
            (search, found)
        })
        .await;
        search = next;
        match found? {
            Found::NotYet if out.is_closed() => return Err(Done),
            Found::NotYet => {}
            Found::Lines { offset, lines } => {
                source.offset = offset;
                return Ok(lines);
            }
        }
    }
}

async fn follow(
    log: &Path,
    mut source: Option<Source>,
    alive: impl Fn() -> bool + Send,
    writer: &mut Writer,
) -> Result<(), Done> {
    loop {
        let running = alive();
        if let Some(source) = &mut source {
            let data = source.read(CHUNK).await?;
            if !data.is_empty() {
                writer.write(&data).await?;
                continue;
            }
        }
        let inode = source.as_ref().map(|s| s.inode);
        let path = log.to_owned();
        let newer = unblock(move || {
            let there = std::fs::symlink_metadata(&path).ok()?;
            (Some(there.ino()) != inode).then(|| Source::open(&path).ok())?
        })
        .await;
        if let Some(newer) = newer {
            // Rotated: what was appended to the old file meanwhile comes first.
            if let Some(mut old) = source.take() {
                let end = old.file.metadata()?.len();
                old.copy(end, writer).await?;
                writer.next_file().await?;
            }
            source = Some(newer);
            continue;
        }
        if let Some(source) = &mut source
            && source.file.metadata()?.len() < source.offset
        {
            // Somebody emptied it.
            source.offset = 0;
            writer.next_file().await?;
            continue;
        }
        if !running {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = writer.out.closed() => return Ok(()),
        }
    }
}

struct Writer {
    view: View,
    out: mpsc::Sender<Bytes>,
}

impl Writer {
    async fn write(&mut self, data: &[u8]) -> Result<(), Done> {
        let text = self.view.text(data);
        self.send(text).await
    }

    async fn next_file(&mut self) -> Result<(), Done> {
        let text = self.view.next_file();
        self.send(text).await
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), Done> {
        let sent = if text.is_empty() {
            !self.out.is_closed()
        } else {
            self.out.send(Bytes::from(text)).await.is_ok()
        };
        if sent && !self.view.is_done() {
            Ok(())
        } else {
            Err(Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(log: &Path, options: Options) -> String {
        let (out, mut chunks) = mpsc::channel(64);
        let task = tokio::spawn(stream(log.to_owned(), options, || false, out));
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk);
        }
        task.await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let old = dir.path().join("0.log.20261121-215900");
        std::fs::write(&old, "2026-11-21T21:59:00Z stdout F zero\n").unwrap();
        std::fs::write(
            &log,
            "2026-11-21T22:00:00Z stdout F one\n2026-11-21T22:00:01Z stderr P tw\n\
             2026-11-21T22:00:01Z stderr F o\n2026-11-21T22:00:02Z stdout F three\n",
        )
        .unwrap();
        let all = Options::default();
        assert_eq!(read(&log, all.clone()).await, "zero\none\ntwo\nthree\n");
        let tail = |n| Options {
            tail: Some(n),
            ..all.clone()
        };
        assert_eq!(read(&log, tail(1)).await, "three\n");
        assert_eq!(read(&log, tail(5)).await, "zero\none\ntwo\nthree\n");
        assert_eq!(read(&log, tail(0)).await, "");
        let since = Options {
            since: Some("2026-11-21T22:00:02Z".parse().unwrap()),
            ..all.clone()
        };
        assert_eq!(read(&log, since).await, "three\n");
        let limit = Options {
            limit_bytes: Some(6),
            ..all.clone()
        };
        assert_eq!(read(&log, limit).await, "zero\no");
        let stamped = Options {
            timestamps: true,
            tail: Some(3),
            follow: true,
            ..all
        };
        assert_eq!(
            read(&log, stamped).await,
            "2026-11-21T22:00:01Z two\n2026-11-21T22:00:02Z three\n"
        );
    }

    #[tokio::test]
    async fn a_follower_sees_rotation_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, "t stdout F one\nt stdout F tw").unwrap();
        let alive = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (out, mut chunks) = mpsc::channel(64);
        let options = Options {
            follow: true,
            ..Options::default()
        };
        let running = Arc::clone(&alive);
        let alive_now = move || running.load(std::sync::atomic::Ordering::SeqCst);
        let task = tokio::spawn(stream(log.clone(), options, alive_now, out));
        let mut text = chunks.recv().await.unwrap().to_vec();
        assert_eq!(text, b"one\ntw");
        let old = dir.path().join("0.log.20261121-215900");
        std::fs::rename(&log, &old).unwrap();
        let mut file = File::options().append(true).open(&old).unwrap();
        std::io::Write::write_all(&mut file, b"o\n").unwrap();
        std::fs::write(&log, "t stdout F three\n").unwrap();
        alive.store(false, std::sync::atomic::Ordering::SeqCst);
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk);
        }
        task.await.unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "one\ntwo\nthree\n");
    }
}
