//! Watches and logs over WebSockets, as browsers ask for them: each event of a watch is a message, a log comes in messages
//! as it is written.
//!
//! What was authorized and answered is the request as it came; only the way of the answer's bytes is another.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::status::ApiError;
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::flow;
use crate::http_types::{self, Request, Response};
use crate::protobuf;
use crate::proxy::Tunnels;
use crate::registry::Connect;
use crate::request::{ApiRequest, Verb};

/// A client has nothing to say but that it goes.
const MAX_FROM_CLIENT: usize = 4 << 10;
/// How long the connection may take to change hands.
const HANDOVER: Duration = Duration::from_secs(10);
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// In which messages an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Binary,
    Base64,
}

/// A client that waits for a WebSocket.
pub(super) struct Socket {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    form: Form,
}

impl Socket {
    /// What a request asks for; none for one that is no watch, no log, or wants no WebSocket.
    ///
    /// # Errors
    /// `BadRequest` for a handshake that is none.
    pub(super) fn wanted(
        request: &mut Request,
        read: &ApiRequest,
    ) -> Result<Option<Self>, ApiError> {
        let ApiRequest::Resource(asked) = read else {
            return Ok(None);
        };
        let is_log = asked
            .connect
            .as_ref()
            .is_some_and(|connect| connect.kind == Connect::Log);
        let streams = is_log || asked.verb == Verb::Watch;
        if !streams || request.method() != Method::GET || !is_handshake(request.headers()) {
            return Ok(None);
        }
        let headers = request.headers();
        let bad = |why: &str| ApiError::BadRequest(format!("bad WebSocket handshake: {why}"));
        let key = headers
            .get(header::SEC_WEBSOCKET_KEY)
            .ok_or_else(|| bad("there is no Sec-WebSocket-Key"))?;
        if headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(bad("the version must be 13"));
        }
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
            .map_err(|error| bad(&error.to_string()))?;
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|protocol| !protocol.is_empty())
            .collect();
        let (protocol, form) = match (is_log, offered.as_slice()) {
            (true, []) => (None, Form::Binary),
            (true, offered) => offered
                .iter()
                .find_map(|protocol| match *protocol {
                    BINARY => Some((Some(BINARY), Form::Binary)),
                    BASE64 => Some((Some(BASE64), Form::Base64)),
                    _ => None,
                })
                .ok_or_else(|| bad("none of the protocols is spoken here"))?,
            (false, []) => (None, Form::Events),
            (false, [one]) => (Some(*one), Form::Events),
            (false, _) => return Err(bad("a watch has one protocol at most")),
        };
        let protocol = protocol.map(HeaderValue::try_from).transpose();
        Ok(Some(Self {
            protocol: protocol.map_err(|error| bad(&error.to_string()))?,
            accept,
            form,
            upgrade: hyper::upgrade::on(request),
        }))
    }

    /// Sends an answer over the socket; a refusal is an answer like any other. `stall` is how long a client may take for
    /// a message.
    pub(super) fn open(self, mut answer: Response, tunnels: &Tunnels, stall: Duration) -> Response {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let held = flow::held_by(&mut answer);
        let mut switching = http::Response::new(http_types::full(""));
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Some(protocol) = &self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        for warning in answer.headers().get_all(header::WARNING) {
            headers.append(header::WARNING, warning.clone());
        }
        tunnels.spawn(async move {
            if let Err(error) = self.send(answer, stall).await {
                tracing::debug!(%error, "a WebSocket ended");
            }
            drop(held);
        });
        switching
    }

    async fn send(self, answer: Response, stall: Duration) -> Result<(), http_types::BoxError> {
        let binary = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|of| of.as_bytes().starts_with(protobuf::MEDIA_TYPE.as_bytes()));
        let upgraded = timeout(HANDOVER, self.upgrade).await??;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FROM_CLIENT))
            .max_frame_size(Some(MAX_FROM_CLIENT));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let mut body = answer.into_body();
        let mut messages = Messages {
            form: self.form,
            binary,
            rest: BytesMut::new(),
        };
        if self.form != Form::Events {
            // As on the stock server, so that a client knows that it is there.
            timeout(stall, socket.send(messages.of(Bytes::new()))).await??;
        }
        loop {
            tokio::select! {
                frame = body.frame() => match frame {
                    Some(Ok(frame)) => {
                        let Ok(data) = frame.into_data() else { continue };
                        messages.add(data);
                        while let Some(message) = messages.next() {
                            timeout(stall, socket.send(message)).await??;
                        }
                    }
                    Some(Err(error)) => return Err(error),
                    None => break,
                },
                said = socket.next() => match said {
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    // A ping is answered with the next message, and what else it says is of no meaning.
                    Some(Ok(_)) => timeout(stall, socket.flush()).await??,
                    Some(Err(error)) => return Err(error.into()),
                },
            }
        }
        timeout(stall, socket.close(None)).await??;
        Ok(())
    }
}

/// Whether the headers ask for a WebSocket.
fn is_handshake(headers: &HeaderMap) -> bool {
    let has = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name);
        let mut words = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Cuts the bytes of an answer into messages.
struct Messages {
    form: Form,
    /// Whether events are in protobuf, each behind its length.
    binary: bool,
    rest: BytesMut,
}

impl Messages {
    fn add(&mut self, data: Bytes) {
        self.rest.extend_from_slice(&data);
    }

    /// The next message that is whole.
    fn next(&mut self) -> Option<Message> {
        match (self.form, self.binary) {
            (Form::Events, false) => {
                let end = self.rest.iter().position(|byte| *byte == b'\n')?;
                let event = self.rest.split_to(end).freeze();
                self.rest.advance(1);
                Some(self.of(event))
            }
            (Form::Events, true) => {
                let head = self.rest.first_chunk::<4>()?;
                let length = usize::try_from(u32::from_be_bytes(*head)).ok()?;
                if self.rest.len() < 4 + length {
                    return None;
                }
                self.rest.advance(4);
                let event = self.rest.split_to(length).freeze();
                Some(self.of(event))
            }
            (Form::Binary | Form::Base64, _) => {
                if self.rest.is_empty() {
                    return None;
                }
                let all = self.rest.split().freeze();
                Some(self.of(all))
            }
        }
    }

    fn of(&self, data: Bytes) -> Message {
        match self.form {
            Form::Base64 => Message::text(STANDARD.encode(&data)),
            Form::Binary => Message::Binary(data),
            Form::Events if self.binary => Message::Binary(data),
            Form::Events => Message::text(String::from_utf8_lossy(&data).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(form: Form, binary: bool, parts: &[&[u8]]) -> Vec<Message> {
        let mut messages = Messages {
            form,
            binary,
            rest: BytesMut::new(),
        };
        let mut all = Vec::new();
        for part in parts {
            messages.add(Bytes::copy_from_slice(part));
            while let Some(message) = messages.next() {
                all.push(message);
            }
        }
        all
    }

    #[test]
    fn each_event_is_a_message_however_it_comes() {
        let parts: [&[u8]; 3] = [b"{\"a\":1}\n{\"b\"", b":2}\n", b"{\"c\""];
        assert_eq!(
            messages(Form::Events, false, &parts),
            [Message::text("{\"a\":1}"), Message::text("{\"b\":2}")]
        );
        let parts: [&[u8]; 3] = [b"\0\0", b"\0\x02hi\0\0\0\x01!", b"\0\0\0\x09part"];
        assert_eq!(
            messages(Form::Events, true, &parts),
            [Message::binary(&b"hi"[..]), Message::binary(&b"!"[..])]
        );
        let parts: [&[u8]; 2] = [b"a\nb", b"c"];
        assert_eq!(
            messages(Form::Binary, false, &parts),
            [Message::binary(&b"a\nb"[..]), Message::binary(&b"c"[..])]
        );
        assert_eq!(
            messages(Form::Base64, false, &parts),
            [Message::text("YQpi"), Message::text("Yw==")]
        );
    }
}
