//! Exec, attach and port-forward: an HTTP server on loopback whose URLs are handed out by the
//! CRI's RPCs, each good for one connection.
//!
//! Tasks: the accept loop; one for each connection; and what a session needs below that. They end with
//! their client or with the server. A connection has to show its token within [`http::PATIENCE`].

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
use std::time::Instant;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::error::CriError;
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
    pub(crate) fn url(&self, request: Request) -> Result<String, CriError> {
        let kind = request.path();
        let token = self
            .tokens
            .put(request, Instant::now())
            .ok_or(CriError::TooManyStreams)?;
        Ok(format!("http://{}/{kind}/{token}", self.address))
    }

    fn take(&self, kind: &str, token: &str) -> Option<Request> {
        self.tokens.take(kind, token, Instant::now())
    }
}

/// Connections that have not shown a token yet. Everybody on the machine can make them, so they are few and short; what
/// comes behind waits in the kernel. Streams are not counted, since only who may use the CRI's socket gets tokens.
const MAX_WITHOUT_TOKEN: usize = 256;

/// Accepts connections until shutdown.
pub(crate) async fn serve(engine: Shared, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_WITHOUT_TOKEN));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { return };
        match accepted {
            Ok((socket, _)) => {
                // Terminals: what is typed goes out at once.
                let _ = socket.set_nodelay(true);
                let connection = http::connection(engine.clone(), socket, place);
                engine.tasks.connection(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "streaming server cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
