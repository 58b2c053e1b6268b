//! Port-forward: every connection is a pair of streams, `data` and `error`, with the port in
//! their headers and one request id.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpSocket, TcpStream};
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
    // Sockets that are made inside the namespace stay there.
    let sockets = tokio::task::spawn_blocking(move || netns::within_network(&path, sockets));
    let failed = CriError::io("connect to", port_path());
    connect_first(sockets.await??, port).await.map_err(failed)
}

/// A socket for each of the loopback addresses, as far as there are such here.
fn sockets() -> Vec<(io::Result<TcpSocket>, IpAddr)> {
    [
        (AddressFamily::INET, Ipv4Addr::LOCALHOST.into()),
        (AddressFamily::INET6, Ipv6Addr::LOCALHOST.into()),
    ]
    .map(|(family, address)| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let socket = made.map(|socket| TcpSocket::from_std_stream(socket.into()));
        (socket.map_err(io::Error::from), address)
    })
    .into()
}

/// Connects the first socket that can be. No thread waits for it: a pod that lets connections hang would else hold all
/// threads that the server has for blocking work.
async fn connect_first(
    sockets: Vec<(io::Result<TcpSocket>, IpAddr)>,
    port: u16,
) -> io::Result<TcpStream> {
    let mut first = None;
    for (socket, address) in sockets {
        let connected = match socket {
            Ok(socket) => in_time(socket.connect(SocketAddr::new(address, port))).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// How long a pod may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(30);

async fn in_time(connect: impl Future<Output = io::Result<TcpStream>>) -> io::Result<TcpStream> {
    let timed = tokio::time::timeout(CONNECT, connect).await;
    timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn dial(ips: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the pod has no address");
    for ip in ips {
        match in_time(TcpStream::connect(SocketAddr::new(*ip, port))).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_lets_connections_hang_holds_no_thread() {
        // A listener that never accepts: the kernel leaves more than its queue unanswered.
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        rustix::net::bind(&listener, &any).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let listener = std::net::TcpListener::from(listener);
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut forwards = JoinSet::new();
            for _ in 0..20 {
                forwards.spawn(async move {
                    let here = || netns::within_network("/proc/self/ns/net".as_ref(), sockets);
                    let made = tokio::task::spawn_blocking(here).await.unwrap().unwrap();
                    connect_first(made, port).await
                });
            }
            let free = async {
                for _ in 0..10 {
                    tokio::task::spawn_blocking(|| ()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let free = tokio::time::timeout(Duration::from_secs(10), free).await;
            assert!(free.is_ok(), "no thread is free");
            // Some have come into the queue; the others hang, and not for ever.
            let mut taken = 0;
            while let Ok(Some(ended)) =
                tokio::time::timeout(Duration::from_secs(1), forwards.join_next()).await
            {
                ended.unwrap().unwrap();
                taken += 1;
            }
            assert!(taken < 20, "the listener's queue took all of them");
        });
    }

    #[tokio::test]
    async fn what_listens_is_reached_at_either_loopback_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            connect_first(sockets(), port).await.unwrap();
            drop(listener);
            let error = connect_first(sockets(), port).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
