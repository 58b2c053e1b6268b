//! The streaming server's HTTP: finds what a URL stands for and negotiates how it is spoken.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::{Request, channels, exec, forward, spdy, websocket};
use crate::engine::Shared;

type Reply = Response<Full<Bytes>>;
/// The connection after the upgrade.
pub(super) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// The longest head of a request.
const HEAD_LIMIT: usize = 16 << 10;
const STREAM_VERSION: &str = "x-stream-protocol-version";
const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
/// Protocols of exec and attach over SPDY, best first.
const SPDY_EXEC: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
const SPDY_FORWARD: &[&str] = &["portforward.k8s.io"];

/// How long a client may take to show its token and to agree on a protocol.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one connection, which holds its place until it has a stream.
pub(super) async fn connection(engine: Shared, socket: TcpStream, place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let engine = engine.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&engine, request)) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    match tokio::time::timeout(PATIENCE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "streaming connection ended"),
        Err(_) => tracing::debug!("streaming connection ended: no stream was opened in time"),
    }
    drop(place);
}

fn answer(engine: &Shared, mut request: HttpRequest<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let Some((kind, token)) = path.trim_start_matches('/').split_once('/') else {
        return refuse(StatusCode::NOT_FOUND, "not found");
    };
    let Some(stream) = engine.streaming.take(kind, token) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "no such stream: its URL is good for one connection within a minute",
        );
    };
    let upgrade = tokens(request.headers(), UPGRADE.as_str());
    let plan = if upgrade
        .iter()
        .any(|name| name.eq_ignore_ascii_case("websocket"))
    {
        websocket_plan(request.headers(), &stream)
    } else if upgrade
        .iter()
        .any(|name| name.eq_ignore_ascii_case("SPDY/3.1"))
    {
        spdy_plan(request.headers(), &stream)
    } else {
        Err(refuse(
            StatusCode::BAD_REQUEST,
            "upgrade to WebSocket or SPDY/3.1 is required",
        ))
    };
    match plan {
        Ok((reply, protocol)) => {
            let upgrading = hyper::upgrade::on(&mut request);
            let owned = engine.clone();
            engine.tasks.connection(async move {
                match upgrading.await {
                    Ok(upgraded) => session(owned, stream, protocol, TokioIo::new(upgraded)).await,
                    Err(error) => tracing::debug!(%error, "streaming upgrade failed"),
                }
            });
            reply
        }
        Err(reply) => reply,
    }
}

/// How the two sides agreed to speak.
enum Protocol {
    WebSocket(websocket::Version),
    /// SPDY frames in WebSocket messages.
    Tunnel,
    /// The protocol's name decides on the error stream's form.
    Spdy(&'static str),
}

async fn session(engine: Shared, stream: Request, protocol: Protocol, io: Upgraded) {
    match (stream, protocol) {
        (Request::PortForward { sandbox, .. }, Protocol::Spdy(_)) => {
            forward::over_spdy(engine, &sandbox, spdy::accept(io)).await;
        }
        (Request::PortForward { sandbox, .. }, Protocol::Tunnel) => {
            let inner = websocket::tunnel(io).await;
            forward::over_spdy(engine, &sandbox, spdy::accept(inner)).await;
        }
        (Request::PortForward { sandbox, ports }, Protocol::WebSocket(version)) => {
            channels::serve(engine, &sandbox, &ports, io, version).await;
        }
        (stream, Protocol::WebSocket(version)) => {
            let streams = exec::streams_of(&stream);
            exec::run(
                engine,
                stream,
                websocket::remote(io, version, streams).await,
            )
            .await;
        }
        (stream, Protocol::Spdy(name)) => {
            let streams = exec::streams_of(&stream);
            match spdy::remote(spdy::accept(io), name, streams).await {
                Ok(remote) => exec::run(engine, stream, remote).await,
                Err(error) => tracing::debug!(error, "SPDY session without its streams"),
            }
        }
        (_, Protocol::Tunnel) => {}
    }
}

fn websocket_plan(headers: &HeaderMap, stream: &Request) -> Result<(Reply, Protocol), Reply> {
    let Some(key) = headers.get("sec-websocket-key") else {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "the WebSocket key is missing",
        ));
    };
    let offered = tokens(headers, WEBSOCKET_PROTOCOL);
    let (protocol, chosen) = match stream {
        Request::PortForward { ports, .. } => {
            match offered.iter().find(|name| *name == websocket::TUNNEL) {
                Some(name) => (Protocol::Tunnel, Some(name.clone())),
                // The channel protocols need to know the ports before.
                None if !ports.is_empty() => {
                    match websocket::Version::choose(&offered, websocket::FORWARD_NAMES) {
                        Some(version) => (
                            Protocol::WebSocket(version),
                            (!version.name().is_empty()).then(|| version.name().to_owned()),
                        ),
                        None => return Err(no_protocol(websocket::FORWARD_NAMES, &offered)),
                    }
                }
                None => return Err(no_protocol(&[websocket::TUNNEL], &offered)),
            }
        }
        Request::Exec { .. } | Request::Attach { .. } => {
            match websocket::Version::choose(&offered, websocket::NAMES) {
                Some(version) => (
                    Protocol::WebSocket(version),
                    (!version.name().is_empty()).then(|| version.name().to_owned()),
                ),
                None => return Err(no_protocol(websocket::NAMES, &offered)),
            }
        }
    };
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let mut reply = switching("websocket");
    set(&mut reply, "sec-websocket-accept", &accept);
    if let Some(name) = chosen {
        set(&mut reply, WEBSOCKET_PROTOCOL, &name);
    }
    Ok((reply, protocol))
}

fn spdy_plan(headers: &HeaderMap, stream: &Request) -> Result<(Reply, Protocol), Reply> {
    let known = match stream {
        Request::PortForward { .. } => SPDY_FORWARD,
        Request::Exec { .. } | Request::Attach { .. } => SPDY_EXEC,
    };
    let offered = tokens(headers, STREAM_VERSION);
    let chosen = if offered.is_empty() {
        // Clients from before the negotiation speak the oldest.
        known.last().copied()
    } else {
        known
            .iter()
            .copied()
            .find(|name| offered.iter().any(|offer| offer == name))
    };
    let Some(name) = chosen else {
        return Err(no_protocol(known, &offered));
    };
    let mut reply = switching("SPDY/3.1");
    set(&mut reply, STREAM_VERSION, name);
    Ok((reply, Protocol::Spdy(name)))
}

/// The comma-separated words of all headers of a name.
fn tokens(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

fn switching(to: &'static str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    reply
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    reply
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(to));
    reply
}

fn set(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

fn no_protocol(known: &[&'static str], offered: &[String]) -> Reply {
    let mut reply = refuse(
        StatusCode::FORBIDDEN,
        format!("no protocol in common: the client offers {offered:?}, the server knows {known:?}"),
    );
    for name in known {
        if let Ok(value) = HeaderValue::from_str(name) {
            reply
                .headers_mut()
                .append("x-accepted-stream-protocol-versions", value);
        }
    }
    reply
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text.into())));
    *reply.status_mut() = status;
    // A connection is good for one try.
    reply
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}
