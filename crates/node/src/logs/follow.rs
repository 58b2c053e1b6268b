//! Reads a log from where the options say, and goes on while the container runs.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::parse::{Entry, tail_offset};
use super::{Options, files};

const POLL: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 << 10;

/// Sends the log's text until its end (or, following, until `alive` says that no more will come and
/// everything was read), or until the receiver is gone.
pub(crate) async fn stream(
    log: PathBuf,
    options: Options,
    alive: impl Fn() -> bool + Send,
    out: mpsc::Sender<Bytes>,
) {
    let mut writer = Writer {
        left: options.limit_bytes,
        options: options.clone(),
        out,
        started: options.since.is_none(),
        torn: false,
    };
    let offset = match past(&log, &options, &mut writer).await {
        Some(offset) => offset,
        None => return,
    };
    if !options.follow {
        return;
    }
    let mut offset = offset;
    let mut inode = inode(&log);
    let mut rest = Vec::new();
    loop {
        let running = alive();
        match more(&log, &mut offset, &mut rest, &mut writer).await {
            None => return,
            Some(0) if !running => return,
            Some(0) => {
                let now = self::inode(&log);
                if now.is_some() && now != inode {
                    // Rotated: what was appended to the old file meanwhile comes first.
                    if let Some(old) = super::rotated(&log).last()
                        && more(old, &mut offset, &mut rest, &mut writer)
                            .await
                            .is_none()
                    {
                        return;
                    }
                    inode = now;
                    offset = 0;
                    rest.clear();
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = writer.out.closed() => return,
                }
            }
            Some(_) => {}
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| m.ino())
}

/// Writes what is there already; gives the offset in the newest file.
async fn past(log: &Path, options: &Options, writer: &mut Writer) -> Option<u64> {
    let mut wanted = options.tail;
    let mut parts: Vec<(PathBuf, u64)> = Vec::new();
    // From the newest file back, until the tail is long enough.
    for path in files(log).into_iter().rev() {
        let from = match wanted {
            None => 0,
            Some(0) => tokio::fs::metadata(&path).await.map_or(0, |m| m.len()),
            Some(n) => {
                let data = tokio::fs::read(&path).await.unwrap_or_default();
                let lines = data.iter().filter(|b| **b == b'\n').count();
                wanted = Some(n.saturating_sub(lines));
                tail_offset(&data, n) as u64
            }
        };
        parts.push((path, from));
        if wanted == Some(0) {
            break;
        }
    }
    let mut last = 0;
    for (path, from) in parts.into_iter().rev() {
        let mut offset = from;
        let mut rest = Vec::new();
        while more(&path, &mut offset, &mut rest, writer).await? > 0 {}
        last = offset - rest.len() as u64;
    }
    Some(last)
}

/// Reads on from `offset`; gives the number of bytes read, `None` when the reader had enough.
async fn more(
    path: &Path,
    offset: &mut u64,
    rest: &mut Vec<u8>,
    writer: &mut Writer,
) -> Option<usize> {
    let Ok(mut file) = File::open(path).await else {
        return Some(0);
    };
    if file.seek(SeekFrom::Start(*offset)).await.is_err() {
        return Some(0);
    }
    let mut buffer = vec![0; CHUNK];
    let n = file.read(&mut buffer).await.unwrap_or(0);
    *offset += n as u64;
    rest.extend_from_slice(&buffer[..n]);
    let Some(end) = rest.iter().rposition(|b| *b == b'\n') else {
        return Some(n);
    };
    let whole: Vec<u8> = rest.drain(..=end).collect();
    writer.write(&whole).await.then_some(n)
}

struct Writer {
    options: Options,
    left: Option<usize>,
    out: mpsc::Sender<Bytes>,
    started: bool,
    /// The last entry written was partial.
    torn: bool,
}

impl Writer {
    /// False when nothing more is wanted.
    async fn write(&mut self, lines: &[u8]) -> bool {
        let mut text = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let Some(entry) = Entry::parse(line) else {
                continue;
            };
            if self
                .options
                .stream
                .is_some_and(|s| !s.eq_ignore_ascii_case(entry.stream))
            {
                continue;
            }
            if !self.started {
                let since = self.options.since;
                self.started = entry.at().is_none_or(|at| Some(at) >= since);
            }
            if !self.started {
                continue;
            }
            // The rest of a split line gets no second time stamp.
            entry.write(self.options.timestamps && !self.torn, &mut text);
            self.torn = entry.partial;
        }
        let mut done = false;
        if let Some(left) = &mut self.left {
            done = text.len() >= *left;
            text.truncate(*left);
            *left -= text.len();
        }
        let sent = text.is_empty() || self.out.send(Bytes::from(text)).await.is_ok();
        sent && !done
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
}
