//! Requests in flight: how many there may be, and who comes first.
//!
//! As the stock server's API Priority and Fairness: every request belongs to a priority level with seats of its own
//! ([`level`]), and within a level the flows of different users take turns ([`queues`]). Health probes and
//! administrators pass at once, heartbeats of nodes have seats that nobody else can take. A request that finds its
//! queue full, or waits too long, is answered with 429 and `Retry-After`.
//!
//! A request has its seats until its answer has been taken by the client; a watch only until its answer begins, a log or a
//! connection to a pod only until the pod or node is asked, and then one of the places of its user ([`places`]).
//!
//! The decisions are values without a clock; [`FlowControl`] is the layer that waits.

mod level;
mod measures;
mod places;
mod queues;
mod seats;
mod width;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::level::{Flow, Level, classify};
use self::places::{Place, Places};
use self::queues::{Arrival, Bounds, Queues, Ticket};
use crate::http_types::Response;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::user::User;

pub(crate) use self::level::{Asked, is_long_running};
pub(crate) use self::measures::{Counted, Measures};
pub(crate) use self::seats::Seats;
pub(crate) use self::width::{MAX_WIDTH, of_list};

/// Requests of one flow that may wait.
const QUEUE_OF_FLOW: usize = 200;
/// Requests of one level that may wait.
const QUEUE: usize = 2000;
/// When a refused client should come again (stock: 1 second).
const RETRY_AFTER: u32 = 1;

/// Why a request has no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

impl Refusal {
    /// The stock value of the metric's label.
    const fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// Who may go on, and who waits.
pub(crate) struct FlowControl {
    gates: HashMap<Level, Arc<Gate>>,
    places: Arc<Places>,
    queue_wait: Duration,
    measures: Measures,
    refused: LogLimit,
}

impl FlowControl {
    pub(crate) fn new(limits: &Limits) -> Self {
        let measures = Measures::default();
        let gates = Level::LIMITED.map(|level| {
            let seats = level.seats(limits.seats());
            measures.limit(level, seats);
            let queue = |length| if level.queues() { length } else { 0 };
            let bounds = Bounds {
                seats,
                queue_of_flow: queue(QUEUE_OF_FLOW),
                queue: queue(QUEUE),
            };
            (level, Arc::new(Gate::new(level, bounds, measures.clone())))
        });
        Self {
            gates: HashMap::from(gates),
            places: Places::new(limits.max_watches, limits.max_watches_per_user),
            queue_wait: limits.queue_wait(),
            measures,
            refused: LogLimit::default(),
        }
    }

    /// What it counts.
    pub(crate) fn measures(&self) -> &Measures {
        &self.measures
    }

    /// Waits until the request may go on.
    ///
    /// # Errors
    /// `TooManyRequests` when its queue is full or it waited too long, and for a watch too many of its user.
    pub(crate) async fn admit(&self, user: &User, asked: &Asked<'_>) -> Result<Permit, ApiError> {
        let flow = classify(user, asked);
        let long_running = is_long_running(asked.verb, asked.subresource);
        let place = if long_running && flow.level != Level::Exempt {
            let place = self.places.take(user);
            Some(place.inspect_err(|error| self.log(user, flow.level, &error.to_string()))?)
        } else {
            None
        };
        let seats = match self.gates.get(&flow.level) {
            None => Seats::exempt(),
            Some(gate) => match gate.seat(&flow, asked.width, self.queue_wait).await {
                Ok(seat) => Seats::new(Arc::clone(gate), flow.clone(), self.queue_wait, seat),
                Err(refusal) => {
                    self.measures.refused(&flow, refusal.reason());
                    self.log(user, flow.level, refusal.reason());
                    return Err(refused());
                }
            },
        };
        self.measures.dispatched(&flow);
        Ok(Permit {
            in_flight: Some(self.measures.in_flight(asked.verb)),
            long_running,
            seats,
            place,
            kept: None,
        })
    }

    fn log(&self, user: &User, level: Level, reason: &str) {
        if let Some(suppressed) = self.refused.pass() {
            tracing::warn!(
                user = user.name,
                priority_level = level.name(),
                reason,
                suppressed,
                "a request was refused: its user has too many in flight"
            );
        }
    }
}

/// What a client is told whose request has no seat.
fn refused() -> ApiError {
    ApiError::TooManyRequests {
        message: "Too many requests, please try again later.".to_owned(),
        retry_after_seconds: RETRY_AFTER,
    }
}

/// The right of a request to be worked on.
#[derive(Debug)]
pub(crate) struct Permit {
    in_flight: Option<Counted>,
    long_running: bool,
    seats: Seats,
    #[expect(dead_code, reason = "it is held, not read")]
    place: Option<Place>,
    kept: Option<Counted>,
}

impl Permit {
    /// Gives the seats back before the answer, of which nobody knows when it comes. The place is kept.
    pub(crate) fn leave_seat(&mut self) {
        self.seats.leave();
        self.in_flight = None;
    }

    /// Counts the request as one that is open for as long as the permit lasts.
    pub(crate) fn keep(&mut self, open: Counted) {
        self.kept = Some(open);
    }

    /// The seats, for who carries the request out and may have to wait for others.
    pub(crate) fn seats(&self) -> Seats {
        self.seats.clone()
    }

    /// The permit for all that belongs to the request, whichever lasts longest.
    pub(crate) fn shared(self) -> Held {
        Held(Arc::new(self))
    }

    /// Ties the permit to the answer: [`held_by`] finds it there. What is long-running gives its seats back now.
    pub(crate) fn accompany(mut self, response: &mut Response) {
        if self.long_running {
            self.leave_seat();
        }
        response.extensions_mut().insert(self.shared());
    }
}

/// A permit that lasts as long as the body of an answer, and the connection that an upgrade has made of a request.
#[derive(Clone, Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "it is held, not read")] Arc<Permit>);

/// Takes the permit of an answer, to be held while its body is sent.
pub(crate) fn held_by(response: &mut Response) -> Option<Held> {
    response.extensions_mut().remove()
}

/// One level's seats, and who waits for them.
#[derive(Debug)]
struct Gate {
    level: Level,
    measures: Measures,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queues: Queues,
    waiting: HashMap<Ticket, oneshot::Sender<Called>>,
    next: Ticket,
}

/// What a waiting request is called for.
#[derive(Debug)]
enum Called {
    Seated,
    Displaced,
}

impl Gate {
    fn new(level: Level, bounds: Bounds, measures: Measures) -> Self {
        Self {
            level,
            measures,
            state: Mutex::new(State {
                queues: Queues::new(bounds),
                waiting: HashMap::new(),
                next: 0,
            }),
        }
    }

    async fn seat(
        self: &Arc<Self>,
        flow: &Flow,
        width: u32,
        wait: Duration,
    ) -> Result<Seat, Refusal> {
        let width = width.max(1);
        let seat = Seat {
            gate: Arc::clone(self),
            key: flow.key.clone(),
            width,
        };
        let mut waiter = {
            let mut state = self.state.lock();
            let ticket = state.next;
            state.next += 1;
            match state.queues.arrive(&seat.key, ticket, width) {
                Arrival::Seated => {
                    self.measure(&state);
                    return Ok(seat);
                }
                Arrival::Refused => {
                    // Nothing is taken, so nothing is to be given back.
                    seat.disarm();
                    return Err(if self.level.queues() {
                        Refusal::QueueFull
                    } else {
                        Refusal::ConcurrencyLimit
                    });
                }
                Arrival::Queued { displaced } => {
                    let (call, called) = oneshot::channel();
                    state.waiting.insert(ticket, call);
                    if let Some(lost) = displaced.and_then(|t| state.waiting.remove(&t)) {
                        let _ = lost.send(Called::Displaced);
                    }
                    self.dispatch(&mut state);
                    Waiter {
                        seat: Some(seat),
                        ticket,
                        called,
                    }
                }
            }
        };
        match tokio::time::timeout(wait, &mut waiter.called).await {
            Ok(Ok(Called::Seated)) => waiter.seat.take().ok_or(Refusal::TimeOut),
            Ok(Ok(Called::Displaced) | Err(_)) => {
                if let Some(seat) = waiter.seat.take() {
                    seat.disarm();
                }
                Err(Refusal::QueueFull)
            }
            Err(_) => Err(Refusal::TimeOut),
        }
    }

    /// Calls all who can have their seats.
    fn dispatch(&self, state: &mut State) {
        while let Some(ticket) = state.queues.next() {
            if let Some(call) = state.waiting.remove(&ticket) {
                // It cannot be gone: a waiter leaves the queue under the same lock.
                let _ = call.send(Called::Seated);
            }
        }
        self.measure(state);
    }

    fn measure(&self, state: &State) {
        let (seats, waiting) = (state.queues.seats_in_use(), state.queues.waiting());
        self.measures.level(self.level, seats, waiting);
    }
}

/// Seats in use; given back when dropped.
#[derive(Debug)]
struct Seat {
    gate: Arc<Gate>,
    key: String,
    width: u32,
}

impl Seat {
    /// For a seat that was not given.
    fn disarm(mut self) {
        self.width = 0;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.width == 0 {
            return;
        }
        let mut state = self.gate.state.lock();
        state.queues.leave(&self.key, self.width);
        self.gate.dispatch(&mut state);
    }
}

/// A request in a queue; it leaves the queue when dropped.
struct Waiter {
    seat: Option<Seat>,
    ticket: Ticket,
    called: oneshot::Receiver<Called>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else {
            return;
        };
        let gate = Arc::clone(&seat.gate);
        let mut state = gate.state.lock();
        if state.queues.give_up(&seat.key, self.ticket) {
            state.waiting.remove(&self.ticket);
            seat.disarm();
            gate.dispatch(&mut state);
            return;
        }
        drop(state);
        match self.called.try_recv() {
            // It was called at the last moment: the seat is given back by its own drop.
            Ok(Called::Seated) => drop(seat),
            Ok(Called::Displaced) | Err(_) => seat.disarm(),
        }
    }
}

#[cfg(test)]
mod tests;
