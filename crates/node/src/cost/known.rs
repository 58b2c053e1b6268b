//! What has been measured.

use std::time::Duration;

use berth_cost::{ClassKey, Cost, Ledger, NodeReport, SandboxReport};
use jiff::Timestamp;
use parking_lot::Mutex;

#[derive(Default)]
struct Known {
    ledger: Ledger,
    /// Of the last round.
    sandboxes: Vec<SandboxReport>,
}

/// What has been measured.
#[derive(Default)]
pub(crate) struct Costs(Mutex<Known>);

impl Costs {
    /// Goes on from what was measured before.
    pub(super) fn begin(&self, ledger: Ledger) {
        self.0.lock().ledger = ledger;
    }

    /// All that was measured.
    pub(super) fn ledger(&self) -> Ledger {
        self.0.lock().ledger.clone()
    }

    /// Adds a measurement, made at `now` (seconds since 1970).
    pub(super) fn add(&self, key: &ClassKey, cost: &Cost, is_new: bool, now: i64) {
        self.0.lock().ledger.add(key, cost, is_new, now);
    }

    /// Shows these as the last measurements.
    pub(super) fn show(&self, sandboxes: Vec<SandboxReport>) {
        self.0.lock().sandboxes = sandboxes;
    }

    /// The node's report.
    pub(crate) fn report(&self, node: &str, period: Duration) -> NodeReport {
        let known = self.0.lock();
        NodeReport {
            node: node.to_owned(),
            period_seconds: period.as_secs(),
            classes: known.ledger.report(Timestamp::now().as_second()),
            sandboxes: known.sandboxes.clone(),
        }
    }
}
