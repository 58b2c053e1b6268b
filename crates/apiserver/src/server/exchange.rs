//! What happens on one connection: requests that are being answered, answers that wait for their client, and whether
//! the connection must be closed because its client does not do its part.
//!
//! The state is a value that is asked with the time; [`Exchanges`] shares it between the connection and its requests.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::flow::{self, Held};
use crate::http_types::{Body, BoxError, Response};
use crate::limits::Deadlines;

/// Requests that a client may cancel at once before they are answered. Each costs the server some work and the client
/// next to nothing (HTTP/2 "rapid reset").
const CANCEL_BURST: u32 = 200;
/// Requests that a client may cancel for each second.
const CANCEL_PER_SECOND: u32 = 20;

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is asked for.
    Idle,
    /// No request has come since the connection was made.
    NoRequest,
    /// An answer is not taken.
    Stalled,
    /// Requests are cancelled again and again.
    Cancels,
}

impl Verdict {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Idle => "there was no request for a while",
            Self::NoRequest => "no request came in time",
            Self::Stalled => "an answer was not taken in time",
            Self::Cancels => "too many requests were cancelled by the client",
        }
    }
}

#[derive(Debug)]
struct State {
    open: HashMap<u64, Open>,
    next: u64,
    /// When the last exchange ended, or the connection began.
    idle_since: Instant,
    /// What is left of the cancellations that the client may make, and when that was.
    cancels: u32,
    cancels_at: Instant,
    abused: bool,
}

#[derive(Debug, Default)]
struct Open {
    /// Since when a part of the answer waits until the client has taken the one before.
    waits_since: Option<Instant>,
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            open: HashMap::new(),
            next: 0,
            idle_since: now,
            cancels: CANCEL_BURST,
            cancels_at: now,
            abused: false,
        }
    }

    fn begin(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open::default());
        id
    }

    fn end(&mut self, id: u64, complete: bool, now: Instant) {
        self.open.remove(&id);
        self.idle_since = now;
        if complete {
            return;
        }
        let seconds = now.duration_since(self.cancels_at).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .saturating_mul(CANCEL_PER_SECOND);
            self.cancels = self.cancels.saturating_add(more).min(CANCEL_BURST);
            self.cancels_at = now;
        }
        match self.cancels.checked_sub(1) {
            Some(left) => self.cancels = left,
            None => self.abused = true,
        }
    }

    fn judge(&self, now: Instant, deadlines: &Deadlines) -> Option<Verdict> {
        if self.abused {
            return Some(Verdict::Cancels);
        }
        let stalled = |since: Instant| now.duration_since(since) >= deadlines.stall;
        if self
            .open
            .values()
            .any(|o| o.waits_since.is_some_and(stalled))
        {
            return Some(Verdict::Stalled);
        }
        let (limit, verdict) = if self.next == 0 {
            (deadlines.header, Verdict::NoRequest)
        } else {
            (deadlines.idle, Verdict::Idle)
        };
        let idle = self.open.is_empty() && now.duration_since(self.idle_since) >= limit;
        idle.then_some(verdict)
    }
}

/// The exchanges of a connection.
#[derive(Clone, Debug)]
pub(super) struct Exchanges(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    abused: Notify,
    deadlines: Deadlines,
}

impl Exchanges {
    pub(super) fn new(deadlines: Deadlines) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(Instant::now())),
            abused: Notify::new(),
            deadlines,
        }))
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Exchange {
        Exchange {
            id: self.0.state.lock().begin(),
            shared: Arc::clone(&self.0),
            complete: false,
        }
    }

    /// Whether several requests are being answered.
    pub(super) fn are_several(&self) -> bool {
        self.0.state.lock().open.len() > 1
    }

    /// Resolves when the connection must be closed.
    pub(super) async fn verdict(&self) -> Verdict {
        loop {
            self.tick().await;
            if let Some(verdict) = self.judge() {
                return verdict;
            }
        }
    }

    /// Resolves when no request is left, or the connection must be closed.
    pub(super) async fn over(&self) {
        while !self.0.state.lock().open.is_empty() && self.judge().is_none() {
            self.tick().await;
        }
    }

    fn judge(&self) -> Option<Verdict> {
        self.0.state.lock().judge(Instant::now(), &self.0.deadlines)
    }

    /// Lets some time pass, as little as the shortest deadline needs.
    async fn tick(&self) {
        let deadlines = &self.0.deadlines;
        let least = deadlines.header.min(deadlines.idle).min(deadlines.stall);
        let tick = (least / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
        tokio::select! {
            () = self.0.abused.notified() => {}
            () = tokio::time::sleep(tick) => {}
        }
    }
}

/// A request and its answer. Dropped before the answer is complete, it was cancelled.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    id: u64,
    complete: bool,
}

impl Exchange {
    /// Lasts as long as the body of the answer, with the permit of the request.
    pub(super) fn hold(self, mut response: Response) -> Response {
        let held = flow::held_by(&mut response);
        response.map(|body| {
            HeldBody {
                body,
                exchange: self,
                _held: held,
            }
            .boxed_unsync()
        })
    }

    fn waits(&self, since: Option<Instant>) {
        if let Some(open) = self.shared.state.lock().open.get_mut(&self.id) {
            open.waits_since = since;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.end(self.id, self.complete, Instant::now());
        if state.abused {
            self.shared.abused.notify_one();
        }
    }
}

struct HeldBody {
    body: Body,
    exchange: Exchange,
    _held: Option<Held>,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            // The next part is asked for when this one has gone out.
            Poll::Ready(Some(Ok(_))) => this.exchange.waits(Some(Instant::now())),
            Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(None) => this.exchange.complete = true,
            Poll::Pending => this.exchange.waits(None),
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

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.exchange.complete |= self.body.is_end_stream();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadlines() -> Deadlines {
        Deadlines {
            header: Duration::from_secs(3),
            idle: Duration::from_secs(9),
            stall: Duration::from_secs(5),
            ..Deadlines::default()
        }
    }

    #[test]
    fn a_connection_without_requests_is_closed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::new(start);
        assert_eq!(state.judge(after(2), &deadlines()), None);
        assert_eq!(
            state.judge(after(3), &deadlines()),
            Some(Verdict::NoRequest)
        );
        let id = state.begin();
        assert_eq!(state.judge(after(100), &deadlines()), None);
        state.end(id, true, after(100));
        assert_eq!(state.judge(after(108), &deadlines()), None);
        assert_eq!(state.judge(after(109), &deadlines()), Some(Verdict::Idle));
    }

    #[test]
    fn an_answer_must_be_taken() {
        let start = Instant::now();
        let mut state = State::new(start);
        let id = state.begin();
        state.open.get_mut(&id).unwrap().waits_since = Some(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(state.judge(after(4), &deadlines()), None);
        assert_eq!(state.judge(after(5), &deadlines()), Some(Verdict::Stalled));
        // A watch that waits for something to happen does not stall.
        state.open.get_mut(&id).unwrap().waits_since = None;
        assert_eq!(state.judge(after(500), &deadlines()), None);
    }

    #[test]
    fn cancelling_is_for_exceptions() {
        let start = Instant::now();
        let mut state = State::new(start);
        let mut cancel = |now: Instant| {
            let id = state.begin();
            state.end(id, false, now);
            state.abused
        };
        for _ in 0..CANCEL_BURST {
            assert!(!cancel(start));
        }
        let later = start + Duration::from_secs(1);
        for _ in 0..CANCEL_PER_SECOND {
            assert!(!cancel(later));
        }
        assert!(cancel(later));
    }
}
