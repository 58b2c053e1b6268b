//! The node's HTTPS server (10250): what the API server asks a kubelet for.
//!
//! | path | what |
//! |---|---|
//! | `/containerLogs/NS/POD/CONTAINER` | logs |
//! | `/exec`, `/attach`, `/portForward`, `/run` | passed byte for byte to the runtime's stream |
//! | `/pods`, `/runningpods`, `/healthz`, `/metrics`, `/metrics/resource`, `/stats/summary` | facts |

mod auth;
mod facts;
mod logs;
mod reply;
mod stats;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::agent::Agent;
use crate::{Config, Error};

pub(crate) use reply::Body;
use reply::{NotServed, text};

/// A bound socket and its TLS, ready to serve.
pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Server {
    pub(crate) async fn bind(config: &Config) -> Result<Self, Error> {
        let tls = tls::acceptor(&config.tls)?;
        let listener = TcpListener::bind(config.bind)
            .await
            .map_err(|source| Error::Bind {
                addr: config.bind,
                source,
            })?;
        Ok(Self { listener, tls })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener
            .local_addr()
            .map_or(0, |addr: SocketAddr| addr.port())
    }

    /// Serves until `shutdown`; open streams end with it.
    pub(crate) async fn serve(self, agent: Arc<Agent>, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!(%error, "accept");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let agent = Arc::clone(&agent);
            let tls = self.tls.clone();
            let shutdown = shutdown.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    result = connection(agent, tls, stream) => {
                        if let Err(error) = result {
                            debug!(%error, "connection to the node server");
                        }
                    }
                }
            });
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    agent: Arc<Agent>,
    tls: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), AnyError> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let caller = auth::caller(stream.get_ref().1);
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        let caller = caller.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&agent, caller, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

async fn answer(
    agent: &Arc<Agent>,
    caller: Option<auth::Caller>,
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
        ["metrics", "resource"] if get => stats::resource(agent).await,
        ["metrics", "cadvisor" | "probes"] if get => Ok(text(StatusCode::OK, "")),
        ["stats", "summary"] if get => stats::summary(agent).await,
        ["containerLogs", ns, pod, container] if get => {
            logs::logs(agent, &request, ns, pod, container)
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
