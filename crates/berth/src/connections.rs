//! API clients of this process's own server, over few connections.
//!
//! kube's own client speaks HTTP/1.1: each watch has a connection. The garbage collector alone watches every kind there is, and
//! a TLS handshake costs both ends, which are one process here, most of what a start takes. Over HTTP/2 they share a
//! connection, as many as a server takes on one; then there is another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use berth_supervise::measures;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use parking_lot::Mutex;
use tower::{Service, ServiceBuilder};

/// Requests at once on a connection: fewer than any server takes (Kubernetes: 250, Go: 100 at least).
const STREAMS: usize = 100;
const CONNECT: Duration = Duration::from_secs(30);
/// How often a server that says nothing is asked whether it is there, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// A client as `config` says, for a server that speaks HTTP/2.
///
/// # Errors
/// When the TLS parts don't fit.
pub(crate) fn client(config: &kube::Config) -> kube::Result<kube::Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_only()
        .enable_http2()
        .wrap_connector(connector);
    let connections = Connections {
        connector,
        open: Arc::default(),
    };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer()?)
        .service(connections);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

/// Each with a connection of its own.
#[derive(Clone)]
struct Connections {
    connector: HttpsConnector<HttpConnector>,
    open: Arc<Mutex<Vec<Connection>>>,
}

struct Connection {
    client: Http,
    /// Each request on it, with its answer, has another.
    streams: Arc<()>,
}

impl Connection {
    fn streams(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }
}

impl Connections {
    /// A client with a stream to spare.
    fn take(&self) -> (Http, Arc<()>) {
        let mut open = self.open.lock();
        let free = open.iter().find(|c| c.streams() < STREAMS);
        if let Some(free) = free {
            return (free.client.clone(), Arc::clone(&free.streams));
        }
        open.retain(|connection| connection.streams() > 0);
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1)
            .http2_keep_alive_while_idle(true)
            .build(self.connector.clone());
        let streams = Arc::new(());
        open.push(Connection {
            client: client.clone(),
            streams: Arc::clone(&streams),
        });
        (client, streams)
    }
}

impl Service<Request<Body>> for Connections {
    type Response = Response<Answer>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, stream) = self.take();
        let method = request.method().as_str().to_owned();
        let host = request.uri().authority().map_or("", |host| host.as_str());
        let host = host.to_owned();
        Box::pin(async move {
            let begun = Instant::now();
            let answer = client.request(request).await;
            let code = answer.as_ref().map(|answer| answer.status());
            let code = code.as_ref().map_or("<error>", |code| code.as_str());
            measures::count_request(&host, &method, code, begun.elapsed());
            let response = answer?;
            Ok(response.map(|body| Answer {
                body,
                _stream: stream,
            }))
        })
    }
}

/// The body of an answer, which has its stream until it ends.
struct Answer {
    body: Incoming,
    _stream: Arc<()>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_as_many_requests_as_a_server_takes() {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        let connections = Connections {
            connector: HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_only()
                .enable_http2()
                .wrap_connector(plain),
            open: Arc::default(),
        };
        let mut held: Vec<_> = (0..STREAMS).map(|_| connections.take().1).collect();
        assert_eq!(connections.open.lock().len(), 1);
        held.push(connections.take().1);
        assert_eq!(connections.open.lock().len(), 2);
        held.clear();
        // What is free again is used again.
        let _one = connections.take();
        assert_eq!(connections.open.lock()[0].streams(), 1);
    }
}
