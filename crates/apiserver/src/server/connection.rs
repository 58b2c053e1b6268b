//! One connection, from the TLS handshake to its end, with what its client must do in time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::{Exchanges, Verdict};
use super::gather::{Gathered, Gathering};
use super::io::SlottedStream;
use super::tasks::payload_text;
use crate::api::Api;
use crate::audit::AUDIT_ID;
use crate::authn::Certificate;
use crate::connections::{Connection, Slot};
use crate::handler::{self, Peer};
use crate::http_types::{self, Request, Response};
use crate::limits::Limits;
use crate::tls::ServerTls;

/// How long a connection may take to end after it was told so.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 << 10;
/// Bytes of bodies that wait for being read, for each stream of an HTTP/2 connection.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of answers that wait for being sent, for each stream of an HTTP/2 connection.
const SEND_BUFFER: usize = 128 << 10;
/// Streams that a client has reset before the server looked at them.
const PENDING_RESETS: usize = 20;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) api: Arc<Api>,
    pub(super) tls: Option<ServerTls>,
    pub(super) limits: Arc<Limits>,
    pub(super) shutdown: CancellationToken,
    /// Cuts what is left of the connections when a shutdown has lasted long enough.
    pub(super) cut: CancellationToken,
    /// Owns the tasks of connections and of their HTTP/2 streams.
    pub(super) tasks: TaskTracker,
}

/// Serves a connection until it ends or must be closed.
pub(super) async fn serve(
    context: Context,
    stream: TcpStream,
    address: SocketAddr,
    slot: Slot,
    connection: Connection,
) {
    let evicted = connection.clone();
    let cut = context.cut.clone();
    tokio::select! {
        () = cut.cancelled() => {}
        () = evicted.evicted() => tracing::debug!(%address, "a connection was closed to make room"),
        () = shake_hands(context, stream, address, slot, connection) => {}
    }
}

async fn shake_hands(
    context: Context,
    stream: TcpStream,
    address: SocketAddr,
    slot: Slot,
    connection: Connection,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY");
    }
    let stream = SlottedStream::new(stream, slot);
    let Some(tls) = &context.tls else {
        let peer = Peer {
            address,
            certificate: Certificate::None,
            connection,
        };
        return speak(context, Gathered::new(stream, false), peer).await;
    };
    let limit = context.limits.deadlines.handshake;
    match tokio::time::timeout(limit, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = tls.judge(stream.get_ref().1.peer_certificates());
            let peer = Peer {
                address,
                certificate,
                connection,
            };
            // Only HTTP/2 is flushed so often; and an HTTP/1 connection may go on without HTTP, polled by others.
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(context, Gathered::new(stream, is_http2), peer).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn speak<S>(context: Context, stream: Gathered<S>, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let connection = peer.connection.clone();
    let peer = Arc::new(peer);
    let shutdown = context.shutdown.clone();
    let exchanges = Exchanges::new(context.limits.deadlines.clone());
    let builder = builder(&context);
    let begun = exchanges.clone();
    let service = service_fn(move |request| {
        let exchange = begun.begin();
        let (api, peer) = (Arc::clone(&context.api), Arc::clone(&peer));
        let shutdown = context.shutdown.clone();
        let answer: BoxFuture<'static, Result<Response, Infallible>> = Box::pin(async move {
            let answer = answer(api, peer, request, shutdown).await;
            Ok(exchange.hold(answer))
        });
        answer
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream.clone()), service);
    let others = exchanges.clone();
    let mut serving = Gathering::new(serving, stream, move || others.are_several());
    tokio::select! {
        result = &mut serving => {
            if let Err(error) = result {
                tracing::debug!(%address, %error, "a connection ended");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        () = connection.told_to_leave() => {}
        verdict = exchanges.verdict() => {
            tracing::debug!(%address, reason = verdict.text(), "a connection is closed");
            match verdict {
                Verdict::Idle | Verdict::NoRequest => {}
                Verdict::Stalled | Verdict::Cancels => return,
            }
        }
    }
    serving.serving().graceful_shutdown();
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::debug!(%address, %error, "a connection ended");
            }
        }
        () = linger(&exchanges) => {}
    }
}

/// Answers that are on their way may be finished; a connection that has none must end soon.
async fn linger(exchanges: &Exchanges) {
    tokio::time::sleep(LINGER).await;
    exchanges.over().await;
}

/// Answers a request; a panic in its course is this request's alone.
async fn answer(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    shutdown: CancellationToken,
) -> Response {
    let path = request.uri().path().to_owned();
    let address = peer.address;
    let handled = AssertUnwindSafe(handler::handle(api, peer, request, shutdown))
        .catch_unwind()
        .await;
    match handled {
        Ok(mut response) => {
            // Each is another: in HPACK's table they would push out the headers that come again.
            if let Some(id) = response.headers_mut().get_mut(AUDIT_ID) {
                id.set_sensitive(true);
            }
            response
        }
        Err(payload) => {
            let reason = payload_text(payload.as_ref());
            tracing::error!(%address, path, reason, "a request caused a panic");
            http_types::error(&ApiError::Internal(
                "This request caused apiserver to panic. Look in the logs for details.".to_owned(),
            ))
        }
    }
}

fn builder(context: &Context) -> auto::Builder<Owned> {
    let limits = &context.limits;
    let deadlines = &limits.deadlines;
    let mut builder = auto::Builder::new(Owned(context.tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.header)
        .max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(deadlines.ping_interval)
        .keep_alive_timeout(deadlines.ping_timeout)
        .max_concurrent_streams(limits.http2_max_streams_per_connection)
        .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Runs the streams of HTTP/2 connections as tasks that the server owns.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F> Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn the_future_of_a_request_is_small() {
        // Each request copies it several times, and allocates it.
        let bytes = size(answer);
        assert!(bytes < 6 << 10, "{bytes} bytes");
    }
}
