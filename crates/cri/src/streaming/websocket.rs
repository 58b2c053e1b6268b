//! Exec and attach over WebSocket: channels in the first byte of each message.
//!
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize (from version 3 on), 255 close (from
//! version 5 on: its payload is the channel that has ended). The `base64.` protocols put the
//! payload into base64 behind the channel's digit. Port-forward puts SPDY frames into the
//! messages ([`tunnel`]).

use base64::Engine as _;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::http::Upgraded;
use super::pump::{Closer, Remote, Sink};
use super::tokens::Streams;

/// SPDY in WebSocket messages, for port-forward.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The protocols of exec and attach, best first.
pub(super) const NAMES: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v3.channel.k8s.io",
    "v3.base64.channel.k8s.io",
    "v2.channel.k8s.io",
    "v2.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
/// The protocols of port-forward.
pub(super) const FORWARD_NAMES: &[&str] =
    &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Messages under way in each direction.
pub(super) const QUEUE: usize = 16;

/// One of [`NAMES`] or [`FORWARD_NAMES`], or the nameless first protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(&'static str);

impl Version {
    /// The best of what a client offers and an endpoint knows; a client that offers nothing speaks the first protocol.
    pub(super) fn choose(offered: &[String], known: &[&'static str]) -> Option<Self> {
        if offered.is_empty() {
            return Some(Self(""));
        }
        known
            .iter()
            .find(|name| offered.iter().any(|offer| offer == *name))
            .map(|name| Self(name))
    }

    pub(super) fn name(self) -> &'static str {
        self.0
    }

    pub(super) fn base64(self) -> bool {
        self.0.contains("base64.")
    }

    fn number(self) -> u8 {
        match self.0.as_bytes() {
            [b'v', digit @ b'2'..=b'9', ..] => digit - b'0',
            _ => 1,
        }
    }
}

/// The longest message of a client. Those of the official clients have 32 KiB, but some put all that they send into one.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Our side of a connection that was upgraded.
pub(super) async fn accept(io: Upgraded) -> WebSocketStream<Upgraded> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await
}

/// A message on a channel.
pub(super) fn message(channel: u8, base64: bool, bytes: &[u8]) -> Message {
    if base64 {
        let mut text = String::from(char::from(b'0' + channel.min(9)));
        base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut text);
        return Message::text(text);
    }
    let mut whole = BytesMut::with_capacity(bytes.len() + 1);
    whole.put_u8(channel);
    whole.put_slice(bytes);
    Message::Binary(whole.freeze())
}

/// The channel and payload of a message; `None` for one that has neither.
pub(super) fn payload(message: Message, base64: bool) -> Option<(u8, Bytes)> {
    let mut bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return None,
    };
    let channel = *bytes.first()?;
    bytes = bytes.slice(1..);
    if base64 {
        let channel = channel.checked_sub(b'0')?;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&bytes)
            .ok()?;
        return Some((channel, Bytes::from(decoded)));
    }
    Some((channel, bytes))
}

/// The size in a resize message.
#[derive(Deserialize)]
pub(super) struct Size {
    #[serde(rename = "Width")]
    pub(super) width: u16,
    #[serde(rename = "Height")]
    pub(super) height: u16,
}

/// The streams of a client that speaks channels.
pub(super) async fn remote(io: Upgraded, version: Version, streams: Streams) -> Remote {
    let socket = accept(io).await;
    let (mut sender, mut receiver) = socket.split();
    let (messages, mut outgoing) = mpsc::channel::<Message>(QUEUE);
    let base64 = version.base64();
    let (stdin, stdin_receiver) = mpsc::channel(QUEUE);
    let (resize, resize_receiver) = mpsc::channel(QUEUE);

    let (gone, mut is_gone) = tokio::sync::oneshot::channel::<()>();
    let pongs = messages.downgrade();
    tokio::spawn(async move {
        let mut stdin = streams.stdin.then_some(stdin);
        while let Some(Ok(message)) = receiver.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
            if let Message::Ping(data) = message {
                if let Some(messages) = pongs.upgrade() {
                    let _ = messages.send(Message::Pong(data)).await;
                }
                continue;
            }
            match payload(message, base64) {
                Some((STDIN, bytes)) => {
                    if let Some(open) = &stdin
                        && !bytes.is_empty()
                        && open.send(bytes).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some((RESIZE, bytes)) => {
                    if let Ok(size) = serde_json::from_slice::<Size>(&bytes) {
                        let _ = resize.send((size.width, size.height)).await;
                    }
                }
                Some((CLOSE, bytes)) if version.number() >= 5 && bytes.first() == Some(&STDIN) => {
                    stdin = None
                }
                _ => {}
            }
        }
        drop(gone);
    });
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = outgoing.recv() => message,
                _ = &mut is_gone => return,
            };
            let Some(message) = message else { return };
            let last = matches!(message, Message::Close(_));
            if sender.send(message).await.is_err() {
                return;
            }
            if last {
                break;
            }
        }
        // The client answers with its own close; without that it may not have read everything.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), &mut is_gone).await;
    });

    let sink = |channel| Sink::WebSocket {
        channel,
        base64,
        messages: messages.clone(),
    };
    // Clients take the first message as a sign that the other side is there.
    let first = if streams.stdout { STDOUT } else { ERROR };
    let _ = messages.send(message(first, base64, &[])).await;
    Remote {
        stdin: streams.stdin.then_some(stdin_receiver),
        resize: (streams.tty && version.number() >= 3).then_some(resize_receiver),
        stdout: streams.stdout.then(|| sink(STDOUT)),
        stderr: (streams.stderr && !streams.tty).then(|| sink(STDERR)),
        error: sink(ERROR),
        error_as_status: version.number() >= 4,
        closer: Closer::WebSocket(messages),
    }
}

/// The byte stream inside the binary messages of a tunnel.
pub(super) async fn tunnel(io: Upgraded) -> DuplexStream {
    let socket = accept(io).await;
    let (mut sender, mut receiver) = socket.split();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            if sender
                .send(Message::Binary(buffer.split().freeze()))
                .await
                .is_err()
            {
                return;
            }
            buffer.reserve(32 * 1024);
        }
        let _ = sender.send(Message::Close(None)).await;
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = receiver.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                // Pings are answered by the library with the next write.
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    continue;
                }
            };
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_protocol_is_chosen() {
        let offer = |names: &[&str]| {
            let offered: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Version::choose(&offered, NAMES).map(Version::name)
        };
        let forward = |names: &[&str]| {
            let offered: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Version::choose(&offered, FORWARD_NAMES).map(Version::name)
        };
        // As the official clients of Python and JavaScript offer them.
        assert_eq!(
            forward(&["v5.channel.k8s.io", "v4.channel.k8s.io"]),
            Some("v4.channel.k8s.io")
        );
        assert_eq!(forward(&["v5.channel.k8s.io"]), None);
        assert_eq!(offer(&[]), Some(""));
        assert_eq!(
            offer(&["v4.channel.k8s.io", "v5.channel.k8s.io"]),
            Some("v5.channel.k8s.io")
        );
        assert_eq!(
            offer(&["base64.channel.k8s.io"]),
            Some("base64.channel.k8s.io")
        );
        assert_eq!(offer(&["v9.channel.k8s.io"]), None);
    }

    #[test]
    fn messages_come_back_as_they_went() {
        for base64 in [false, true] {
            let sent = message(2, base64, b"\x00\xffx");
            assert_eq!(
                payload(sent, base64),
                Some((2, Bytes::from_static(b"\x00\xffx")))
            );
        }
        assert_eq!(payload(Message::Binary(Bytes::new()), false), None);
        assert_eq!(payload(Message::text("0%%%"), true), None);
    }
}
