//! What is written to an HTTP/2 connection is gathered, and sent when the connection's task has done what there was to do.
//!
//! HTTP/2 is flushed after each frame with data, so that sixteen small answers would be sixteen TLS records and sixteen
//! writes to the kernel. [`Gathered`] is what hyper writes to; [`Gathering`] polls hyper, and sends what it has written:
//!
//! - after a poll, when nothing else is being answered on the connection;
//! - else the task first goes behind the tasks that are ready now, once: those of the other streams of this connection, most
//!   likely, whose answers are then sent together with this one.
//!
//! At most [`GATHERED_BYTES`] wait. What is more is written only when the stream below has taken some: a client that does not
//! read is noticed as it is without this. An idle connection keeps nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait.
const GATHERED_BYTES: usize = 64 << 10;
/// Room for what is gathered at first: a few answers.
const FIRST_BYTES: usize = 4 << 10;

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    is_gathering: bool,
    waiting: Vec<u8>,
    /// How many of the waiting bytes the stream has taken.
    taken: usize,
    /// Why what was gathered could not be sent, for the next write.
    failed: Option<io::Error>,
}

/// The stream that a connection is served on.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<Shared<S>>>);

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gathered<S> {
    /// A stream that is written to as if it were the one below, unless it `gathers`; then [`Gathering`] has to poll who
    /// writes to it.
    pub(super) fn new(stream: S, gathers: bool) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            stream,
            is_gathering: gathers,
            waiting: Vec::new(),
            taken: 0,
            failed: None,
        })))
    }

    fn has_waiting(&self) -> bool {
        !self.0.lock().waiting.is_empty()
    }

    /// Sends what was gathered. What the stream does not take now is sent after a later poll, for which the task is woken.
    fn send(&self, context: &mut Context<'_>) {
        let mut shared = self.0.lock();
        if let Poll::Ready(Err(error)) = shared.poll_send(context) {
            shared.failed = Some(error);
            shared.forget();
            // Whoever writes has to hear of it.
            context.waker().wake_by_ref();
        }
    }

    /// Sends what was gathered as far as the stream takes it, and the rest before what others write: nobody polls the
    /// connection any more.
    fn end(&self, context: &mut Context<'_>) {
        if self.has_waiting() {
            self.send(context);
        }
        self.0.lock().is_gathering = false;
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Ready when the stream has sent everything.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.waiting.get(self.taken..).filter(|l| !l.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, left))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += count;
        }
        // Below TLS there may be a rest although all was taken: the task is woken for it, and asks again.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.forget();
        Poll::Ready(Ok(()))
    }

    fn forget(&mut self) {
        self.waiting = Vec::new();
        self.taken = 0;
    }

    /// Ready when nothing waits: for a stream that no longer gathers.
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_send(context)
    }

    /// Ready when more can be gathered.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.waiting.len() >= GATHERED_BYTES {
            return self.poll_send(context);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes as much as there is room for.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(GATHERED_BYTES - self.waiting.len());
        let wanted = self.waiting.len() + count;
        if wanted > self.waiting.capacity() {
            let room = if wanted <= FIRST_BYTES {
                FIRST_BYTES
            } else {
                GATHERED_BYTES
            };
            self.waiting.reserve_exact(room - self.waiting.len());
        }
        self.waiting.extend_from_slice(&bytes[..count]);
        count
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        if !shared.is_gathering {
            ready!(shared.poll_empty(context))?;
            return Pin::new(&mut shared.stream).poll_write_vectored(context, parts);
        }
        ready!(shared.poll_room(context))?;
        let mut count = 0;
        for part in parts {
            let gathered = shared.gather(part);
            count += gathered;
            if gathered < part.len() {
                break;
            }
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        let shared = self.0.lock();
        shared.is_gathering || shared.stream.is_write_vectored()
    }

    /// What is gathered is not sent now, but will be.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        if !shared.is_gathering {
            ready!(shared.poll_empty(context))?;
            return Pin::new(&mut shared.stream).poll_flush(context);
        }
        Poll::Ready(shared.failed.take().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        ready!(shared.poll_empty(context))?;
        Pin::new(&mut shared.stream).poll_shutdown(context)
    }
}

/// A connection as a future, with what it writes.
pub(super) struct Gathering<F, S, O> {
    serving: Pin<Box<F>>,
    stream: Gathered<S>,
    /// Whether other answers may soon follow.
    others: O,
    has_let_others_go_first: bool,
}

impl<F, S, O> Gathering<F, S, O> {
    /// Polls `serving`, which writes to `stream`; `others` says whether several requests are being answered.
    pub(super) fn new(serving: F, stream: Gathered<S>, others: O) -> Self {
        Self {
            serving: Box::pin(serving),
            stream,
            others,
            has_let_others_go_first: false,
        }
    }

    /// What is polled.
    pub(super) fn serving(&mut self) -> Pin<&mut F> {
        self.serving.as_mut()
    }
}

impl<F, S, O> Future for Gathering<F, S, O>
where
    F: Future,
    S: AsyncRead + AsyncWrite + Unpin,
    O: Fn() -> bool + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let result = self.serving.as_mut().poll(context);
        if result.is_ready() {
            self.stream.end(context);
        } else if !self.stream.has_waiting() {
            self.has_let_others_go_first = false;
        } else if !self.has_let_others_go_first && (self.others)() {
            self.has_let_others_go_first = true;
            // A task that wakes itself goes behind those that are ready.
            context.waker().wake_by_ref();
        } else {
            self.has_let_others_go_first = false;
            self.stream.send(context);
        }
        result
    }
}

#[cfg(test)]
mod tests;
