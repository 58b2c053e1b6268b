//! The node's HTTPS server (10250): what the API server asks a kubelet for.
//!
//! | path | what |
//! |---|---|
//! | `/containerLogs/NS/POD/CONTAINER` | logs |
//! | `/exec`, `/attach`, `/portForward`, `/run` | passed byte for byte to the runtime's stream |
//! | `/pods`, `/runningpods`, `/healthz`, `/metrics` | facts |
//! | `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes`, `/stats/summary` | what is used |
//! | `/stats/starts/NS/POD` | where the time of a pod's start went |
//! | `/stats/overhead` | what sandboxes cost beyond their containers |
//! | `/volumes/local-path/VOLUME` | POST makes the directory of a volume, DELETE removes it |

mod auth;
mod cache;
mod cadvisor;
mod caller;
mod connections;
mod exposition;
mod facts;
mod local_path;
mod logs;
mod overhead;
mod probed;
mod reply;
mod resource;
mod reviews;
#[cfg(test)]
mod scenes;
mod stall;
mod starts;
mod streams;
mod summary;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use berth_supervise::{Chain, Outage};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::agent::Agent;
use crate::certificates::ServingSlot;
use crate::{Config, Error};

use connections::{ANSWER_STALL, Connection, Limits, Newcomer};
pub(crate) use reply::Body;
use reply::{NotServed, text};
pub(crate) use reviews::Reviews;
use stall::Stall;

/// A client has so long for the TLS handshake, and for each request's headers.
const TLS_LIMIT: Duration = Duration::from_secs(10);
const HEADERS_LIMIT: Duration = Duration::from_secs(30);
/// Headers are no longer than this; an exec's command is among them.
const HEADERS_BYTES: usize = 256 << 10;
/// A connection that is silent for so long is asked whether its client is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// When nothing can be accepted (no more descriptors), another try comes at the latest after this.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A bound socket and its TLS, ready to serve.
pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    certificate: Arc<ServingSlot>,
}

impl Server {
    pub(crate) async fn bind(config: &Config) -> Result<Self, Error> {
        let (tls, certificate) = tls::acceptor(&config.tls)?;
        let listener = TcpListener::bind(config.bind)
            .await
            .map_err(|source| Error::Bind {
                addr: config.bind,
                source,
            })?;
        Ok(Self {
            listener,
            tls,
            certificate,
        })
    }

    /// Where the certificate is that it shows.
    pub(crate) fn certificate(&self) -> Arc<ServingSlot> {
        Arc::clone(&self.certificate)
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener
            .local_addr()
            .map_or(0, |addr: SocketAddr| addr.port())
    }

    /// Serves until `shutdown`; open streams end with it.
    pub(crate) async fn serve(self, agent: Arc<Agent>, shutdown: CancellationToken) {
        let limits = Limits::default();
        let mut outage = Outage::new("cannot accept connections to the node's server");
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    let pause = outage.failed(error).min(ACCEPT_PAUSE);
                    tokio::time::sleep(pause).await;
                    continue;
                }
            };
            outage.works();
            let Some(newcomer) = limits.newcomer(peer.ip()) else {
                debug!(%peer, "connection refused: too many that have not said who they are");
                continue;
            };
            let (tls, shutdown) = (self.tls.clone(), shutdown.clone());
            let work = connection(Arc::clone(&agent), tls, stream, newcomer);
            // One connection that breaks is its client's trouble.
            agent.tasks.spawn_isolated("connection", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    result = work => if let Err(error) = result {
                        debug!(error, "connection to the node server");
                    }
                }
            });
        }
    }
}

async fn connection(
    agent: Arc<Agent>,
    tls: TlsAcceptor,
    stream: TcpStream,
    newcomer: Newcomer,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    // A client whose machine has vanished is noticed. Without it only that is slower.
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE);
    let stall = Arc::new(AtomicU64::new(ANSWER_STALL));
    let stream = Stall::new(stream, Arc::clone(&stall));
    let stream = match tokio::time::timeout(TLS_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no TLS handshake in time".to_owned()),
    };
    let caller = auth::caller(stream.get_ref().1);
    let Some(place) = newcomer.admit(caller.is_some()) else {
        return Err("too many connections".to_owned());
    };
    let known = Connection::new(place, stall);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let agent = Arc::clone(&agent);
        // A stream keeps the connection's place when HTTP has done with it.
        request.extensions_mut().insert(known.clone());
        let caller = caller.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&agent, caller, request).await) }
    });
    // The limit on headers is one on idle connections as well: it runs from the end of the last answer.
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_LIMIT)
        .max_buf_size(HEADERS_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(|error| Chain(&error).to_string())
}

async fn answer(
    agent: &Arc<Agent>,
    caller: Option<caller::Caller>,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    debug!(%method, path, "node server");
    if let Err(refusal) = auth::allow(agent, caller, &request).await {
        return refusal;
    }
    match route(agent, request, &path).await {
        Ok(response) => response,
        Err(NotServed { status, message }) => text(status, message),
    }
}

async fn route(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    path: &str,
) -> Result<Response<Body>, NotServed> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz", ..] => Ok(text(StatusCode::OK, "ok")),
        ["pods"] if get => Ok(facts::pods(agent, false)),
        ["runningpods"] if get => Ok(facts::pods(agent, true)),
        ["metrics"] if get => Ok(facts::metrics(agent)),
        ["metrics", "resource"] if get => Ok(resource::resource(agent).await),
        ["metrics", "cadvisor"] if get => Ok(cadvisor::cadvisor(agent).await),
        ["metrics", "probes"] if get => Ok(probed::probes(agent)),
        ["stats", "summary"] if get => Ok(summary::summary(agent).await),
        ["stats", "starts", ns, pod] if get => {
            starts::report(agent, request.uri().query(), ns, pod)
        }
        ["stats", "overhead"] if get => Ok(overhead::report(agent)),
        ["volumes", "local-path", volume] => local_path::serve(agent, &request, volume).await,
        ["containerLogs", ns, pod, container] if get => {
            logs::logs(agent, &request, ns, pod, container).await
        }
        // Streams are opened by POST (SPDY) or GET (WebSocket).
        ["exec" | "attach" | "portForward", ..]
            if !matches!(*request.method(), Method::GET | Method::POST) =>
        {
            Err(NotServed::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "405: Method Not Allowed".to_owned(),
            ))
        }
        ["exec", ns, pod, container] | ["exec", ns, pod, _, container] => {
            streams::exec(agent, request, ns, pod, container).await
        }
        ["attach", ns, pod, container] | ["attach", ns, pod, _, container] => {
            streams::attach(agent, request, ns, pod, container).await
        }
        ["portForward", ns, pod] | ["portForward", ns, pod, _] => {
            streams::port_forward(agent, request, ns, pod).await
        }
        ["run", ns, pod, container] | ["run", ns, pod, _, container] if !get => {
            streams::run(agent, &request, ns, pod, container).await
        }
        _ => Err(NotServed::new(
            StatusCode::NOT_FOUND,
            "404 page not found".to_owned(),
        )),
    }
}
