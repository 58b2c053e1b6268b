//! Requests with large bodies or for large objects, away from the threads that serve everybody.
//!
//! Reading, checking and patching megabytes takes milliseconds to seconds of a processor. On an async worker,
//! all connections of that worker would wait for it.

use std::cell::RefCell;
use std::future::Future;

use berth_api::status::ApiError;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// What is up to this size costs less than moving it to another thread is worth.
pub(crate) const LARGE_BYTES: usize = 64 << 10;

/// KiB of large bodies and objects that are worked on at a time; the others wait their turn. Few, as each may take a
/// processor and, as a tree, a hundred times its size; more than the largest one has, as some wait for the disk.
const TURNS_KIB: u32 = 8 << 10;
static TURNS: Semaphore = Semaphore::const_new(TURNS_KIB as usize);
/// What a body counts at least: each has a thread of its own.
const LEAST_KIB: u32 = 1 << 10;
/// Large objects that are made into events of watches at a time. These have turns of their own: one change may be to be
/// shown to a thousand watches, and no request has to wait for that.
static EVENTS: Semaphore = Semaphore::const_new(1);

/// Works that wait for somebody outside without their turns. Each keeps its thread, of which there are 512.
const MAX_AWAY: usize = 200;
static AWAY: Semaphore = Semaphore::const_new(MAX_AWAY);

tokio::task_local! {
    /// The turn of the work on this thread, and how many KiB it counts.
    static TURN: RefCell<Option<(SemaphorePermit<'static>, u32)>>;
}

/// Runs the work of a request: where it is, or on a thread of its own when it has to do with many bytes. Giving up on the
/// answer ends the work at its next await.
pub(crate) async fn run<T, F>(bytes: usize, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    if bytes <= LARGE_BYTES {
        return work.await;
    }
    let ended = |_| ApiError::Internal("the server is shutting down".to_owned());
    let kib = turns(bytes);
    let turn = TURNS
        .acquire_many(kib)
        .await
        .map_err(|_| ApiError::Internal("the server is shutting down".to_owned()))?;
    let given_up = CancellationToken::new();
    let _gives_up = given_up.clone().drop_guard();
    let runtime = Handle::current();
    let working = tokio::task::spawn_blocking(move || {
        // Held by the work itself: it may go on for a moment after its client is gone.
        let work = TURN.scope(RefCell::new(Some((turn, kib))), work);
        runtime.block_on(given_up.run_until_cancelled_owned(work))
    });
    match working.await {
        Ok(Some(answer)) => answer,
        Ok(None) => Err(ApiError::Internal("the request was given up".to_owned())),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(ended(error)),
    }
}

/// Waits for somebody outside (a webhook) without the turn of the work, if it has one, and then for a turn.
///
/// # Errors
/// `TooManyRequests` when too many do.
pub(crate) async fn away<T>(waiting: impl Future<Output = T>) -> Result<T, ApiError> {
    let turn = TURN.try_with(|turn| turn.borrow_mut().take());
    let Ok(Some((turn, kib))) = turn else {
        return Ok(waiting.await);
    };
    drop(turn);
    let place = AWAY.try_acquire().map_err(|_| ApiError::TooManyRequests {
        message: "too many large requests wait for webhooks, please try again later".to_owned(),
        retry_after_seconds: 1,
    })?;
    let done = waiting.await;
    drop(place);
    let turn = TURNS
        .acquire_many(kib)
        .await
        .map_err(|_| ApiError::Internal("the server is shutting down".to_owned()))?;
    let _ = TURN.try_with(|held| held.borrow_mut().replace((turn, kib)));
    Ok(done)
}

/// Makes an event of a watch from a large object, on a thread of its own.
pub(crate) async fn event<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = || ApiError::Internal("the server is shutting down".to_owned());
    let turn = EVENTS.acquire().await.map_err(|_| ended())?;
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match working.await {
        Ok(made) => made,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ended()),
    }
}

/// KiB that so many bytes count.
fn turns(bytes: usize) -> u32 {
    let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    kib.clamp(LEAST_KIB, TURNS_KIB)
}
