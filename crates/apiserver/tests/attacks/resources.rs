//! Clients that take connections, memory, watches or workers from others.

mod answers;
mod connections;
mod flow;
mod memory;
mod rights;
mod watches;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use berth_apiserver::Config;
use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use bytes::Bytes;
use futures::stream::Pending;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Api, PATIENCE};

/// How long others may have to wait during an attack.
const SOON: Duration = Duration::from_secs(1);

/// Who attacks, who must not notice, and a node; each name is a token too.
const USERS: [(&str, &[&str]); 3] = [
    ("mallory", &[]),
    ("jane", &[]),
    ("system:node:a", &["system:nodes"]),
];

fn with_users(config: &mut Config) {
    for (name, groups) in USERS {
        config.authn.static_tokens.push(StaticToken {
            token: name.to_owned(),
            user: User {
                name: name.to_owned(),
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
                ..User::default()
            },
        });
    }
}

/// The text of an HTTP/1 request's head, unfinished.
fn head(method: &str, path: &str, user: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer {user}\r\n")
}

async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(api.address).await.unwrap()
}

/// A connection on which these bytes have been sent.
async fn sent(api: &Api, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = connect(api).await;
    // A server that closes early is what is tested; what it says is read later.
    let _ = stream.write_all(bytes.as_ref()).await;
    stream
}

/// What the server sends until it closes, which it must in time.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text));
    // A reset is an end too.
    let _ = read.await.expect("the server closes the connection");
    String::from_utf8_lossy(&text).into_owned()
}

/// The status code of one request on a connection of its own, and how long it took.
async fn timed(api: &Api, method: &str, path: &str, user: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let request = head(method, path, user) + "Connection: close\r\n\r\n";
    let text = rest(&mut sent(api, request).await).await;
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or(0), begun.elapsed())
}

/// Another user, a node's heartbeat and a probe are answered soon.
async fn others_are_served(api: &Api) {
    for (path, user, codes) in [
        ("/version", "jane", &[200][..]),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a",
            "system:node:a",
            &[403, 404],
        ),
        ("/livez", "jane", &[200]),
    ] {
        let (code, took) = timed(api, "GET", path, user).await;
        assert!(codes.contains(&code), "{path} as {user}: {code}");
        assert!(took < SOON, "{path} as {user} took {took:?}");
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn empty() -> Body {
    Empty::new().boxed_unsync()
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// A body that never comes.
fn never() -> Body {
    let parts: Pending<Result<Frame<Bytes>, Infallible>> = futures::stream::pending();
    StreamBody::new(parts).boxed_unsync()
}

/// An HTTP/2 connection.
async fn http2(api: &Api) -> SendRequest<Body> {
    http2_with_end(api).await.0
}

/// An HTTP/2 connection, and its socket, by which it can be cut off whatever is under way on it.
async fn http2_with_end(api: &Api) -> (SendRequest<Body>, std::net::TcpStream) {
    let stream = connect(api).await.into_std().unwrap();
    let socket = stream.try_clone().unwrap();
    let io = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    (sender, socket)
}

fn request(method: &str, path: &str, user: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://berth{path}"))
        .header("authorization", format!("Bearer {user}"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// The head of an answer, in time.
async fn answered(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Response<Incoming> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("an answer in time")
        .unwrap()
}
