//! One SPDY connection, the server's side.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::pump::Gone;
use super::frame::{self, Frame};
use super::headers::{Reader, Writer};

/// Frames under way for one stream, and to the client.
const QUEUE: usize = 64;
/// Streams that a client may have open for writing at a time.
const STREAMS: usize = 4096;
/// The longest DATA frame sent.
const CHUNK: usize = 64 * 1024;
/// How long a client may take to read the last bytes and leave.
const LEAVING: Duration = Duration::from_secs(5);
/// RST_STREAM reasons.
const REFUSED_STREAM: u32 = 3;

/// A connection whose streams the client opens.
pub(in super::super) struct Session {
    incoming: mpsc::Receiver<Incoming>,
    closer: Closer,
}

/// A stream that the client opened.
pub(in super::super) struct Incoming {
    headers: Vec<(String, String)>,
    /// What the client sends; ends at its FIN.
    pub(in super::super) bytes: mpsc::Receiver<Bytes>,
    pub(in super::super) writer: StreamWriter,
}

impl Incoming {
    /// A header's value; `name` in lower case.
    pub(in super::super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Our direction of a stream.
pub(in super::super) struct StreamWriter {
    id: u32,
    out: mpsc::Sender<Out>,
}

impl StreamWriter {
    pub(in super::super) async fn write(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            let data = Out::Data {
                id: self.id,
                fin: false,
                bytes: chunk,
            };
            self.out.send(data).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Sends FIN.
    pub(in super::super) async fn finish(self) -> Result<(), Gone> {
        let fin = Out::Data {
            id: self.id,
            fin: true,
            bytes: Bytes::new(),
        };
        self.out.send(fin).await.map_err(|_| Gone)
    }

    /// Ends both directions at once.
    pub(in super::super) async fn reset(self) {
        // 5: CANCEL.
        let _ = self.out.send(Out::Raw(frame::reset(self.id, 5))).await;
    }
}

/// What the writer sends.
enum Out {
    Reply {
        id: u32,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    Raw(Bytes),
    /// GOAWAY, then the end.
    Last,
}

/// Ends the connection.
pub(in super::super) struct Closer {
    out: mpsc::Sender<Out>,
    reader: AbortOnDropHandle<()>,
}

impl Closer {
    /// Everything sent before is delivered first.
    pub(in super::super) async fn close(mut self) {
        let _ = self.out.send(Out::Last).await;
        // One that stays is cut off.
        let _ = tokio::time::timeout(LEAVING, &mut self.reader).await;
    }
}

impl Session {
    /// The next stream that the client opens; `None` when it is gone.
    pub(in super::super) async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    pub(in super::super) fn into_closer(self) -> Closer {
        self.closer
    }
}

/// Begins to speak SPDY on a connection.
pub(in super::super) fn accept(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Session {
    let (reader, writer) = tokio::io::split(io);
    let (out, outgoing) = mpsc::channel(QUEUE);
    let (streams, incoming) = mpsc::channel(QUEUE);
    // It ends when the last of the session's senders is gone, or the client.
    tokio::spawn(async move {
        if let Err(error) = write(writer, outgoing).await {
            tracing::debug!(%error, "SPDY connection not written");
        }
    });
    let replies = out.clone();
    let reader = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = read(reader, streams, replies).await {
            tracing::debug!(error, "SPDY connection not read");
        }
    }));
    Session {
        incoming,
        closer: Closer { out, reader },
    }
}

async fn read(
    mut io: impl AsyncRead + Unpin,
    streams: mpsc::Sender<Incoming>,
    out: mpsc::Sender<Out>,
) -> Result<(), String> {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut headers = Reader::new();
    let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        while let Some(frame) = frame::decode(&mut buffer).map_err(|error| error.to_string())? {
            match frame {
                Frame::SynStream { id, fin, block } => {
                    let headers = headers.read(&block).map_err(|error| error.to_string())?;
                    let (sender, bytes) = mpsc::channel(QUEUE);
                    let writer = StreamWriter {
                        id,
                        out: out.clone(),
                    };
                    // Reply first: the client waits for it before it uses the stream.
                    if out.send(Out::Reply { id }).await.is_err() {
                        return Ok(());
                    }
                    let stream = Incoming {
                        headers,
                        bytes,
                        writer,
                    };
                    if open.len() >= STREAMS || streams.try_send(stream).is_err() {
                        let _ = out.send(Out::Raw(frame::reset(id, REFUSED_STREAM))).await;
                    } else if !fin {
                        open.insert(id, sender);
                    }
                }
                Frame::Headers { id, fin, block } => {
                    headers.read(&block).map_err(|error| error.to_string())?;
                    if fin {
                        open.remove(&id);
                    }
                }
                Frame::Data { id, fin, bytes } => {
                    // Nobody reads a stream that was dropped; its bytes go nowhere.
                    if let Some(stream) = open.get(&id)
                        && !bytes.is_empty()
                        && stream.send(bytes).await.is_err()
                    {
                        open.remove(&id);
                    }
                    if fin {
                        open.remove(&id);
                    }
                }
                Frame::Reset { id } => {
                    open.remove(&id);
                }
                // Ours would be even; we send none.
                Frame::Ping { id } if id % 2 == 1 => {
                    let _ = out.send(Out::Raw(frame::ping(id))).await;
                }
                Frame::Ping { .. } | Frame::Ignored => {}
                Frame::GoAway => {}
            }
        }
        match io.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

async fn write(
    mut io: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Out>,
) -> std::io::Result<()> {
    let mut headers = Writer::new().map_err(std::io::Error::other)?;
    let mut last = 0;
    while let Some(out) = outgoing.recv().await {
        match out {
            Out::Reply { id } => {
                last = last.max(id);
                let block = headers.write(&[]).map_err(std::io::Error::other)?;
                io.write_all(&frame::syn_reply(id, &block)).await?;
            }
            Out::Data { id, fin, bytes } => {
                io.write_all(&frame::data_head(id, fin, bytes.len()))
                    .await?;
                io.write_all(&bytes).await?;
            }
            Out::Raw(bytes) => io.write_all(&bytes).await?,
            Out::Last => {
                io.write_all(&frame::go_away(last)).await?;
                break;
            }
        }
        if outgoing.is_empty() {
            io.flush().await?;
        }
    }
    io.flush().await?;
    io.shutdown().await
}
