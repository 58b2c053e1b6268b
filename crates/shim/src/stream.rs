//! The framing on the stream socket of a shim, or of the keeper that holds the streams of a stranger's shim.
//!
//! A client opens with one line of JSON ([`Hello`]); the server answers with one line ([`Reply`]). After an accepted
//! attach, frames run both ways: one byte of kind, four bytes of length (big endian), then the payload. When a client
//! has ended a stdin that is its first client's only, and all of it is on its way to the process, the server says so
//! by an empty frame of stdin.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Hello {
    /// Attach to a container's or an exec's streams.
    Attach {
        /// The container.
        id: String,
        /// The exec; the container's first process when empty.
        #[serde(default)]
        exec_id: String,
        /// Whether this client writes stdin.
        stdin: bool,
        /// Whether it reads stdout.
        stdout: bool,
        /// Whether it reads stderr.
        stderr: bool,
    },
    /// Reopen a container's log file after rotation.
    ReopenLog {
        /// The container.
        id: String,
    },
    /// Keeper: hold a container's FIFOs from now on. Asked again it does nothing.
    Keep {
        /// The container.
        id: String,
        /// Its FIFOs.
        fifos: Fifos,
        /// Whether the container is about to be created: what is held by its id is of an attempt before.
        anew: bool,
    },
    /// Keeper: answer when all that an ended container wrote is in its log.
    Drain {
        /// The container.
        id: String,
    },
    /// Keeper: close our end of a container's stdin.
    CloseStdin {
        /// The container.
        id: String,
    },
    /// Keeper: a container was deleted. Write what is left and let go of its FIFOs.
    Release {
        /// The container.
        id: String,
    },
    /// Keeper: the pod is gone; end.
    End,
}

/// The FIFOs through which a stranger's shim passes a container's streams: `0`, `1` and `2` in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifos {
    /// The directory.
    #[serde(default)]
    pub dir: PathBuf,
    /// The CRI log file.
    pub log: Option<PathBuf>,
    /// Whether the process has a terminal: then there is no `2`.
    pub terminal: bool,
    /// Whether there is a `0`.
    pub stdin: bool,
    /// Whether stdin ends with its first client.
    pub stdin_once: bool,
}

impl Fifos {
    /// Where the FIFO of a stream is.
    #[must_use]
    pub fn path(&self, kind: Kind) -> PathBuf {
        self.dir.join(kind.byte().to_string())
    }
}

/// The answer to a [`Hello`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Why not; absent when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// To attach: whether the end of this client's stdin is the process', too, and will be told.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// To keep: whether stdin is at its end already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_ended: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Largest payload of a frame.
pub const MAX_FRAME: usize = 1 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of stdin; empty closes it.
    Stdin,
    /// Bytes of stdout; empty: no more will come.
    Stdout,
    /// Bytes of stderr; empty: no more will come.
    Stderr,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    fn parse(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr]
            .into_iter()
            .find(|k| k.byte() == byte)
    }
}

/// The five bytes before a payload.
#[must_use]
pub fn header(kind: Kind, len: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [kind.byte(), a, b, c, d]
}

/// Writes one frame.
///
/// # Errors
/// When the socket fails.
pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    payload: &[u8],
) -> std::io::Result<()> {
    to.write_all(&header(kind, payload.len())).await?;
    to.write_all(payload).await
}

/// Reads one frame into `payload`; `None` at the end.
///
/// # Errors
/// When the socket fails or the frame is malformed.
pub async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    payload: &mut Vec<u8>,
) -> std::io::Result<Option<Kind>> {
    let mut head = [0u8; 5];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let [kind, a, b, c, d] = head;
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let invalid = |m: String| std::io::Error::new(std::io::ErrorKind::InvalidData, m);
    let kind = Kind::parse(kind).ok_or_else(|| invalid(format!("unknown frame kind {kind}")))?;
    if len > MAX_FRAME {
        return Err(invalid(format!("frame of {len} bytes")));
    }
    payload.resize(len, 0);
    from.read_exact(payload).await?;
    Ok(Some(kind))
}

/// Writes one line of JSON.
///
/// # Errors
/// When the socket fails.
pub async fn write_line(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Reads one line of JSON.
///
/// # Errors
/// When the socket fails, ends, or the line isn't such a message.
pub async fn read_line<T: for<'a> Deserialize<'a>>(
    from: &mut (impl AsyncBufReadExt + Unpin),
) -> std::io::Result<T> {
    let mut line = Vec::new();
    let mut limited = from.take(64 * 1024);
    limited.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_round_trip_and_nonsense_is_refused() {
        let (mut a, mut b) = tokio::io::duplex(1024);
        write_frame(&mut a, Kind::Stderr, b"hello")
            .await
            .expect("write");
        write_frame(&mut a, Kind::Stdin, b"").await.expect("write");
        a.write_all(&[9, 0, 0, 0, 0]).await.expect("write");
        drop(a);
        let mut buf = Vec::new();
        assert_eq!(
            read_frame(&mut b, &mut buf).await.expect("read"),
            Some(Kind::Stderr)
        );
        assert_eq!(buf, b"hello");
        assert_eq!(
            read_frame(&mut b, &mut buf).await.expect("read"),
            Some(Kind::Stdin)
        );
        assert!(buf.is_empty());
        assert!(read_frame(&mut b, &mut buf).await.is_err());
        assert_eq!(read_frame(&mut b, &mut buf).await.expect("end"), None);
    }
}
