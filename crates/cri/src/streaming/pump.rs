//! The client's side of an exec or attach, whatever carries it.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::spdy::StreamWriter;
use super::status::End;

/// The streams of a client.
pub(super) struct Remote {
    /// Ends at the client's end of file, or when it is gone.
    pub(super) stdin: Option<mpsc::Receiver<Bytes>>,
    /// Width and height.
    pub(super) resize: Option<mpsc::Receiver<(u16, u16)>>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    pub(super) error: Sink,
    /// Whether the error stream takes a `Status`.
    pub(super) error_as_status: bool,
    /// Ends the connection in order; dropped, it just ends.
    pub(super) closer: Closer,
}

/// A stream to the client.
pub(super) enum Sink {
    WebSocket {
        channel: u8,
        base64: bool,
        messages: mpsc::Sender<Message>,
    },
    Spdy(StreamWriter),
}

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Sink {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Gone> {
        match self {
            Self::WebSocket {
                channel,
                base64,
                messages,
            } => messages
                .send(super::websocket::message(*channel, *base64, &bytes))
                .await
                .map_err(|_| Gone),
            Self::Spdy(writer) => writer.write(bytes).await,
        }
    }

    /// Ends the stream; WebSocket channels have no end of their own.
    pub(super) async fn finish(self) {
        if let Self::Spdy(writer) = self {
            let _ = writer.finish().await;
        }
    }
}

/// Ends the connection after everything written before.
pub(super) enum Closer {
    WebSocket(mpsc::Sender<Message>),
    Spdy(super::spdy::Closer),
}

impl Closer {
    async fn close(self) {
        match self {
            Self::WebSocket(messages) => {
                let normal = CloseFrame {
                    code: CloseCode::Normal,
                    reason: "".into(),
                };
                let _ = messages.send(Message::Close(Some(normal))).await;
                // The writer ends with its last sender; it then waits for the client's close.
                messages.closed().await;
            }
            Self::Spdy(closer) => closer.close().await,
        }
    }
}

/// What is left of a client when the outputs have ended.
pub(super) struct Ending {
    pub(super) error: Sink,
    pub(super) error_as_status: bool,
    pub(super) closer: Closer,
}

impl Ending {
    /// Tells how it ended and closes the connection.
    pub(super) async fn tell(mut self, end: &End) {
        if let Some(message) = end.message(self.error_as_status) {
            let _ = self.error.write(Bytes::from(message)).await;
        }
        self.error.finish().await;
        self.closer.close().await;
    }
}
