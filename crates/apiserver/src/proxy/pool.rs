//! Connections to one server that are used again. What is upgraded has a connection of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_api::status::ApiError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::client::{outgoing, without_hops};
use super::tunnels::Tunnels;
use crate::http_types::{Request, Response};

/// Idle connections that are kept.
const IDLE_CONNECTIONS: usize = 16;
/// After which an idle connection is used no more. Servers close theirs later.
const IDLE: Duration = Duration::from_secs(30);

/// Idle connections to one server, the last one used first.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Idle>>>);

struct Idle {
    sender: SendRequest<Incoming>,
    since: Instant,
}

impl Pool {
    /// A connection on which a request can be sent.
    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.0.lock();
        idle.retain(|one| one.since.elapsed() < IDLE && !one.sender.is_closed());
        let at = idle.iter().rposition(|one| one.sender.is_ready())?;
        Some(idle.remove(at).sender)
    }

    fn give(&self, sender: SendRequest<Incoming>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.0.lock();
        if idle.len() >= IDLE_CONNECTIONS {
            idle.remove(0);
        }
        idle.push(Idle {
            sender,
            since: Instant::now(),
        });
    }

    /// Sends a request that is no upgrade over an idle connection, or over a new one.
    ///
    /// # Errors
    /// Of `connect`; `Internal` when the other side does not answer.
    pub(crate) async fn exchange<S, F>(
        &self,
        tunnels: &Tunnels,
        connect: impl Fn() -> F,
        place: &str,
        path_and_query: &str,
        request: Request,
    ) -> Result<Response, ApiError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Result<S, ApiError>>,
    {
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::Internal(format!("error dialing backend {place}: {error}"))
        };
        let mut request =
            outgoing(place, path_and_query, request, false).map_err(|error| failed(&error))?;
        loop {
            let idle = self.take();
            let is_new = idle.is_none();
            let mut sender = match idle {
                Some(sender) => sender,
                None => {
                    let stream = connect().await?;
                    let (sender, connection) = http1::handshake(TokioIo::new(stream))
                        .await
                        .map_err(|error| failed(&error))?;
                    tunnels.spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection to another server");
                        }
                    });
                    sender
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (parts, body) = without_hops(response).into_parts();
                    let mut body = Returning {
                        body,
                        sender: Some(sender),
                        pool: self.clone(),
                    };
                    body.end();
                    let body = body.map_err(Into::into).boxed_unsync();
                    return Ok(http::Response::from_parts(parts, body));
                }
                Err(mut error) => match error.take_message() {
                    // It has been closed in this moment, and nothing was sent.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(failed(error.error())),
                },
            }
        }
    }
}

/// The body of an answer: at its end the connection is free. One that breaks off takes the connection with it.
struct Returning {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Returning {
    fn end(&mut self) {
        if self.body.is_end_stream()
            && let Some(sender) = self.sender.take()
        {
            self.pool.give(sender);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.end(),
            Poll::Ready(None) => {
                if let Some(sender) = self.sender.take() {
                    self.pool.give(sender);
                }
            }
            Poll::Ready(Some(Err(_))) => self.sender = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
