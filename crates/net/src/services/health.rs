//! The health check ports of Services: a load balancer before this node asks there whether the node has endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::Outage;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use super::model::Key;

/// How many are answered together at a port; the others wait.
const TOGETHER: usize = 16;
/// How long one may take to ask and to listen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest question that is read.
const MAX_QUESTION: usize = 4096;
/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// What is said at a port, and the task that says it; it ends with this.
struct Port {
    state: Arc<Mutex<(Key, usize)>>,
    _serving: JoinSet<()>,
}

/// The ports.
pub(crate) struct Health {
    addresses: Vec<IpAddr>,
    ports: BTreeMap<(IpAddr, u16), Port>,
    /// Those that cannot be had.
    refused: BTreeMap<(IpAddr, u16), Outage>,
}

impl Health {
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            ports: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Opens and closes ports, and says what there is now.
    pub(crate) async fn keep(&mut self, wanted: &BTreeMap<u16, (Key, usize)>) {
        self.ports.retain(|(_, port), _| wanted.contains_key(port));
        self.refused
            .retain(|(_, port), _| wanted.contains_key(port));
        for (port, state) in wanted {
            for ip in &self.addresses {
                let at = (*ip, *port);
                if let Some(open) = self.ports.get(&at) {
                    *open.state.lock() = state.clone();
                    continue;
                }
                match TcpListener::bind(SocketAddr::new(*ip, *port)).await {
                    Ok(listener) => {
                        let state = Arc::new(Mutex::new(state.clone()));
                        let mut serving = JoinSet::new();
                        serving.spawn(serve(listener, Arc::clone(&state)));
                        let port = Port {
                            state,
                            _serving: serving,
                        };
                        self.ports.insert(at, port);
                        if let Some(mut outage) = self.refused.remove(&at) {
                            outage.works();
                        }
                    }
                    Err(error) => {
                        let Key { namespace, name } = &state.0;
                        let outage = self.refused.entry(at).or_insert_with(|| {
                            Outage::new(format!(
                                "cannot listen at health check port {ip}:{port} of Service {namespace}/{name}"
                            ))
                        });
                        outage.failed(error);
                    }
                }
            }
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<(Key, usize)>>) {
    let mut answers = JoinSet::new();
    // Each port has its own: those of one Service hold up no other's.
    let places = Arc::new(Semaphore::new(TOGETHER));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = Arc::clone(&places).acquire_owned().await;
                while answers.try_join_next().is_some() {}
                let state = state.lock().clone();
                answers.spawn(async move {
                    let _place = place;
                    let _late = tokio::time::timeout(PATIENCE, answer(stream, &state)).await;
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept at a health check port");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whatever was asked, this is the answer.
async fn answer(mut stream: TcpStream, (key, local): &(Key, usize)) -> std::io::Result<()> {
    let mut question = vec![0; MAX_QUESTION];
    let mut length = 0;
    while let Some(rest) = question.get_mut(length..).filter(|rest| !rest.is_empty()) {
        let read = stream.read(rest).await?;
        length += read;
        let asked = question.get(..length).unwrap_or_default();
        if read == 0 || asked.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    let status = match local {
        0 => "503 Service Unavailable",
        _ => "200 OK",
    };
    let body = json!({
        "service": {"namespace": key.namespace, "name": key.name},
        "localEndpoints": local,
        "serviceProxyHealthy": true,
    });
    let body = format!("{body}\n");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-\
         Weight: {local}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(at: SocketAddr) -> Option<String> {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
            .await
            .ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).await.ok()?;
        Some(told)
    }

    #[tokio::test]
    async fn says_whether_the_node_has_endpoints() {
        let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let mut health = Health::new(vec![at.ip()]);
        let wanted = |local: usize| {
            let key = Key {
                namespace: "n".to_owned(),
                name: "s".to_owned(),
            };
            BTreeMap::from([(at.port(), (key, local))])
        };
        health.keep(&wanted(2)).await;
        let told = ask(at).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200 OK"), "{told}");
        assert!(told.contains("\"localEndpoints\":2"), "{told}");
        health.keep(&wanted(0)).await;
        let told = ask(at).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 503"), "{told}");
        health.keep(&BTreeMap::new()).await;
        let closed = async {
            while ask(at).await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed)
            .await
            .unwrap();
    }
}
