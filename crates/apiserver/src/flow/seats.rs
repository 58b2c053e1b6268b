//! The seats of one request, which it leaves while it waits for somebody outside (a webhook): whoever lets the server wait
//! must not keep others from being served.

use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use parking_lot::Mutex;

use super::level::Flow;
use super::{Gate, Seat, refused};

/// The seats of a request; all copies are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    gate: Arc<Gate>,
    flow: Flow,
    width: u32,
    wait: Duration,
    seat: Mutex<Option<Seat>>,
}

impl Seats {
    /// Those of a request that needs none.
    pub(crate) fn exempt() -> Self {
        Self(None)
    }

    pub(super) fn new(gate: Arc<Gate>, flow: Flow, wait: Duration, seat: Seat) -> Self {
        Self(Some(Arc::new(Shared {
            gate,
            flow,
            width: seat.width,
            wait,
            seat: Mutex::new(Some(seat)),
        })))
    }

    /// Gives them back for good.
    pub(super) fn leave(&self) {
        if let Some(shared) = &self.0 {
            shared.seat.lock().take();
        }
    }

    /// Waits for others without them, and then for them.
    ///
    /// # Errors
    /// `TooManyRequests` when they aren't to be had again in time.
    pub(crate) async fn away<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ApiError> {
        let Some(shared) = &self.0 else {
            return Ok(waiting.await);
        };
        let had = shared.seat.lock().take().is_some();
        let done = waiting.await;
        if had {
            let seat = shared.gate.seat(&shared.flow, shared.width, shared.wait);
            let seat = seat.await.map_err(|_| refused())?;
            *shared.seat.lock() = Some(seat);
        }
        Ok(done)
    }
}
