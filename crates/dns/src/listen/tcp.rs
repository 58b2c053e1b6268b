//! Questions over connections: each with its length before it (RFC 1035, 4.2.2), several at once.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Askers;
use crate::handler::{Handler, Outcome};
use crate::limit::Place;
use crate::query::Transport;

/// Most connections of all clients together.
const MAX_CONNECTIONS: usize = 512;
/// The longest question.
const LONGEST: u16 = 4096;
/// How long a connection may say nothing, and how long reading or writing a message may take.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of a connection before it is closed.
const MAX_QUESTIONS: usize = 1000;
/// A pause after an error of accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections, for ever.
pub(super) async fn serve(listener: TcpListener, handler: Handler, askers: Askers) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(done) = connections.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "a task that serves a DNS connection failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let client = client.ip();
                    let own = askers.has(client).then(|| handler.clients.may_connect(client, Instant::now()));
                    let place = Arc::clone(&places).try_acquire_owned();
                    if let (Some(Some(own)), Ok(place)) = (own, place) {
                        let handler = handler.clone();
                        connections.spawn(async move {
                            let _client_has_gone = converse(stream, client, &handler, own).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a DNS connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    client: IpAddr,
    handler: &Handler,
    _place: Place,
) -> io::Result<()> {
    for _ in 0..MAX_QUESTIONS {
        let length = timeout(IDLE, stream.read_u16()).await??;
        if length > LONGEST {
            return Ok(());
        }
        let mut bytes = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let reply = match handler.handle(&bytes, client, Transport::Tcp) {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Later(work) => work.await,
            Outcome::Nothing => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(reply);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
    Ok(())
}
