//! Questions in datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Askers;
use crate::handler::{Handler, Outcome};
use crate::query::Transport;

/// The longest question: with room for options of EDNS, none of which is used.
const LONGEST: usize = 1500;
/// So many datagrams are read before others have their turn.
const AT_ONCE: usize = 64;

/// Answers what comes to `socket`, for ever. Questions that wait for somebody else are tasks of their own, as many as their
/// clients may have waiting.
pub(super) async fn serve(socket: UdpSocket, handler: Handler, askers: Askers) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            Some(done) = waiting.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "a task that answers a DNS question failed");
                }
            }
            // An error of the socket is told by the next receive.
            _ready = socket.readable() => receive(&socket, &handler, &askers, &mut waiting),
        }
        tokio::task::yield_now().await;
    }
}

fn receive(socket: &Arc<UdpSocket>, handler: &Handler, askers: &Askers, waiting: &mut JoinSet<()>) {
    // One byte more shows what is too long.
    let mut buffer = [0; LONGEST + 1];
    for _ in 0..AT_ONCE {
        let (length, client) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // What the kernel says about an answer that was sent before: its client has gone.
            Err(_) => continue,
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| bytes.len() <= LONGEST) else {
            continue;
        };
        if !askers.has(client.ip()) {
            continue;
        }
        match handler.handle(bytes, client.ip(), Transport::Udp) {
            Outcome::Reply(reply) => send(socket, &reply, client),
            Outcome::Later(work) => {
                let socket = Arc::clone(socket);
                waiting.spawn(async move {
                    if let Some(reply) = work.await {
                        send(&socket, &reply, client);
                    }
                });
            }
            Outcome::Nothing => {}
        }
    }
}

/// Sends a reply where there is room: one that isn't sent is asked for again.
fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(reply, client) {
        tracing::debug!(%client, %error, "a DNS answer was not sent");
    }
}
