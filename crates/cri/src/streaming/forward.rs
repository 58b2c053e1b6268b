//! Port-forward: every connection is a pair of streams, `data` and `error`, with the port in
//! their headers and one request id.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};

use super::copy;
use super::pump::Sink;
use super::spdy::{Incoming, Session};
use crate::engine::Shared;
use crate::error::{CriError, chain};
use crate::netns;
use crate::record::Phase;
use crate::sandbox;

/// Streams of one client that may wait for the other one of their pair.
const HALVES: usize = 256;
/// How long connections to a pod go on after their client has left.
const LEFT: Duration = Duration::from_secs(10);

/// Forwards until the client leaves.
pub(super) async fn over_spdy(engine: Shared, sandbox: &str, mut session: Session) {
    let mut halves: HashMap<String, Incoming> = HashMap::new();
    let mut pairs = Pairs::default();
    while let Some(stream) = session.next().await {
        let (Some(kind), Some(port)) = (stream.header("streamtype"), stream.header("port")) else {
            stream.writer.reset().await;
            continue;
        };
        // Old clients send no request id: their streams come in pairs, and the error stream first.
        let request = stream
            .header("requestid")
            .map_or_else(|| format!("port {port}"), str::to_owned);
        let is_data = match kind {
            "data" => true,
            "error" => false,
            _ => {
                stream.writer.reset().await;
                continue;
            }
        };
        match halves.remove(&request) {
            // A client that never opens the others is not waited for without limit.
            None if halves.len() >= HALVES => stream.writer.reset().await,
            None => {
                halves.insert(request, stream);
            }
            Some(first) => {
                let (data, error) = if is_data {
                    (stream, first)
                } else {
                    (first, stream)
                };
                let port = data
                    .header("port")
                    .and_then(|port| port.parse::<u16>().ok());
                pairs.begin(pair(engine.clone(), sandbox.to_owned(), port, data, error));
            }
        }
    }
    session.into_closer().close().await;
    pairs.finish().await;
}

/// The connections to a pod of one client.
#[derive(Default)]
pub(super) struct Pairs(JoinSet<()>);

impl Pairs {
    pub(super) fn begin(&mut self, pair: impl Future<Output = ()> + Send + 'static) {
        // Those that have ended are dropped.
        while let Some(ended) = self.0.try_join_next() {
            told(ended);
        }
        self.0.spawn(pair);
    }

    /// The client has left: what it sent is delivered still, what comes back nobody wants.
    pub(super) async fn finish(mut self) {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                told(ended);
            }
        };
        let _ = tokio::time::timeout(LEFT, all).await;
    }
}

fn told(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a forwarded connection's task was lost");
    }
}

/// One connection to the pod.
async fn pair(engine: Shared, sandbox: String, port: Option<u16>, data: Incoming, error: Incoming) {
    let connected = match port {
        Some(port) => connect(&engine, &sandbox, port).await.map_err(|failed| {
            format!(
                "error forwarding port {port} to pod sandbox {sandbox}: {}",
                chain(&failed)
            )
        }),
        None => Err("the stream's port is not between 0 and 65535".to_owned()),
    };
    let Incoming {
        mut bytes, writer, ..
    } = data;
    let mut failed = error.writer;
    match connected {
        Ok(socket) => {
            let _ = socket.set_nodelay(true);
            let (from_pod, to_pod) = socket.into_split();
            tokio::join!(
                copy::output(Some(from_pod), Some(Sink::Spdy(writer))),
                copy::input(&mut bytes, to_pod),
            );
        }
        Err(message) => {
            let _ = failed.write(Bytes::from(message)).await;
            let _ = writer.finish().await;
        }
    }
    let _ = failed.finish().await;
}

/// A connection to a port of the pod.
pub(super) async fn connect(engine: &Shared, id: &str, port: u16) -> Result<TcpStream, CriError> {
    let sandbox = engine.sandboxes.get(id)?;
    let record = sandbox.record();
    if record.phase != Phase::Ready {
        return Err(CriError::State(format!(
            "pod sandbox {} is not ready",
            sandbox.id
        )));
    }
    let port_path = || format!("port {port} of pod sandbox {}", sandbox.id);
    if sandbox::host_network(&record.config.0) {
        return dial(
            &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            port,
        )
        .await
        .map_err(CriError::io("connect to", port_path()));
    }
    if !record.runtime.shares_loopback() {
        return dial(&record.ips, port)
            .await
            .map_err(CriError::io("connect to", port_path()));
    }
    let path = engine.layout.pod(&sandbox.id).join("net");
    // The socket is made inside the namespace and stays there; only its connecting blocks.
    let socket = tokio::task::spawn_blocking(move || {
        netns::within_network(&path, || {
            std::net::TcpStream::connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).or_else(
                |_| std::net::TcpStream::connect(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)),
            )
        })
    })
    .await??;
    socket
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            TcpStream::from_std(socket)
        })
        .map_err(CriError::io("connect to", port_path()))
}

async fn dial(ips: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the pod has no address");
    for ip in ips {
        match TcpStream::connect(SocketAddr::new(*ip, port)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
