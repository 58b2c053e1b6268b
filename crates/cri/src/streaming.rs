//! Exec, attach and port-forward: an HTTP server on loopback whose URLs are handed out by the
//! CRI's RPCs, each good for one connection.
//!
//! Tasks: the accept loop; one for each connection; and what a session needs below that. All end
//! with [`serve`]'s shutdown, except running sessions, which end with their streams.

mod channels;
mod copy;
mod exec;
mod forward;
mod http;
mod prepare;
mod pump;
mod spdy;
mod status;
mod tokens;
mod websocket;

#[cfg(test)]
pub(crate) use spdy::opening as spdy_opening;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use spdy::speak_anything as spdy_anything;

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
pub(crate) use prepare::{prepare_attach, prepare_exec, prepare_forward};
use tokens::Tokens;
pub(crate) use tokens::{Request, Streams};

/// Hands out URLs.
pub(crate) struct Streaming {
    address: SocketAddr,
    tokens: Tokens,
}

impl Streaming {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tokens: Tokens::default(),
        }
    }

    /// A URL for one connection within the next minute.
    pub(crate) fn url(&self, request: Request) -> String {
        let kind = request.path();
        let token = self.tokens.put(request);
        format!("http://{}/{kind}/{token}", self.address)
    }

    fn take(&self, token: &str) -> Option<Request> {
        self.tokens.take(token)
    }
}

/// Accepts connections until shutdown.
pub(crate) async fn serve(engine: Shared, listener: TcpListener, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                // Terminals: what is typed goes out at once.
                let _ = socket.set_nodelay(true);
                tokio::spawn(http::connection(engine.clone(), socket));
            }
            Err(error) => {
                tracing::warn!(%error, "streaming server cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
