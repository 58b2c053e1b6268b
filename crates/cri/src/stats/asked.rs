//! Asking shims for figures, so that one that hangs holds nobody up: each has a time, and one that let it pass is not asked
//! again for a while. Until it answers again, its last answer stands, with the time of that.

use std::time::{Duration, Instant};

use berth_shim::client::{Shim, Stats};
use parking_lot::Mutex;

/// A shim has so long for an answer. All pods' figures are one answer: a shim that hangs would hold up that of all.
const PATIENCE: Duration = Duration::from_secs(3);
/// One that let it pass is left alone for so long.
const PAUSE: Duration = Duration::from_secs(30);

/// Figures, and when they were taken (nanoseconds since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) stats: Stats,
    pub(crate) at: i64,
}

/// What is remembered of one container's shim.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Taken>,
    silent_until: Option<Instant>,
}

impl Asked {
    /// Its figures: of now, or the last ones that there were.
    pub(crate) async fn stats(&self, shim: &Shim, id: &str) -> Option<Taken> {
        let answer = async { shim.stats(id).await.map_err(|error| error.to_string()) };
        self.within(PATIENCE, id, answer).await
    }

    async fn within(
        &self,
        patience: Duration,
        id: &str,
        answer: impl Future<Output = Result<Stats, String>>,
    ) -> Option<Taken> {
        {
            let mut state = self.0.lock();
            match state.silent_until {
                Some(until) if Instant::now() < until => return state.last,
                // Whoever asks at the same time does not wait, too.
                Some(_) => state.silent_until = Some(Instant::now() + patience),
                None => {}
            }
        }
        let begin = Instant::now();
        let answer = tokio::time::timeout(patience, answer).await;
        let slow = begin.elapsed() >= patience / 2;
        let mut state = self.0.lock();
        match answer {
            Ok(Ok(stats)) => {
                state.silent_until = None;
                state.last = Some(Taken { stats, at: now() });
            }
            Ok(Err(error)) => {
                // It has waited in vain itself, for a sandbox that hangs.
                state.silent_until = slow.then(|| Instant::now() + PAUSE);
                tracing::debug!(id, error, "no statistics");
            }
            Err(_) => {
                state.silent_until = Some(Instant::now() + PAUSE);
                tracing::warn!(
                    id,
                    seconds = patience.as_secs(),
                    "the shim does not answer: its last statistics stand"
                );
            }
        }
        state.last
    }
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(memory: u64) -> Stats {
        Stats {
            memory_usage: Some(memory),
            ..Stats::default()
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_waited_for_once_and_its_last_answer_stands() {
        let asked = Asked::default();
        let patience = Duration::from_millis(50);
        let good = asked
            .within(patience, "c", async { Ok(stats(7)) })
            .await
            .unwrap();
        assert_eq!(good.stats, stats(7));
        let hung = asked.within(patience, "c", std::future::pending()).await;
        assert_eq!(hung, Some(good));
        // Not waited for again: this would never end.
        let never = async {
            std::future::pending::<()>().await;
            Ok(stats(8))
        };
        let again = asked.within(Duration::from_secs(3600), "c", never).await;
        assert_eq!(again, Some(good));
    }

    #[tokio::test]
    async fn an_error_that_came_late_is_as_none() {
        let (asked, patience) = (Asked::default(), Duration::from_millis(100));
        let late = async {
            tokio::time::sleep(patience * 3 / 4).await;
            Err("the sandbox did not answer".to_owned())
        };
        assert_eq!(asked.within(patience, "c", late).await, None);
        let never = asked.within(Duration::from_secs(3600), "c", std::future::pending());
        assert_eq!(never.await, None);
    }

    #[tokio::test]
    async fn an_error_is_asked_again_at_once() {
        let (asked, patience) = (Asked::default(), Duration::from_secs(5));
        let wrong = async { Err("no".to_owned()) };
        assert_eq!(asked.within(patience, "c", wrong).await, None);
        let good = asked.within(patience, "c", async { Ok(stats(1)) }).await;
        assert_eq!(good.unwrap().stats, stats(1));
        let wrong = async { Err("no".to_owned()) };
        assert_eq!(asked.within(patience, "c", wrong).await, good);
    }
}
