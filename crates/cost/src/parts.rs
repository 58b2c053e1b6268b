//! By what a cost is caused, and while what went on.

use serde::{Deserialize, Serialize};

/// By what a cost is caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The shim and what it keeps running outside of the pod's cgroup.
    pub shim: u64,
    /// The pause container.
    pub pause: u64,
    /// What is in between: sentry and gofer, or the machine's monitor, its guest kernel and file server.
    pub sandbox: u64,
    /// The kernel's own, where it is not charged to the pod's cgroup.
    pub kernel: u64,
}

impl Parts {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.shim, self.pause, self.sandbox, self.kernel]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// With what others have.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            shim: self.shim.saturating_add(other.shim),
            pause: self.pause.saturating_add(other.pause),
            sandbox: self.sandbox.saturating_add(other.sandbox),
            kernel: self.kernel.saturating_add(other.kernel),
        }
    }

    /// Each divided by a number; all 0 for 0.
    #[must_use]
    pub fn divided(self, by: u64) -> Self {
        let one = |part: u64| part.checked_div(by).unwrap_or(0);
        Self {
            shim: one(self.shim),
            pause: one(self.pause),
            sandbox: one(self.sandbox),
            kernel: one(self.kernel),
        }
    }
}

/// Whether the containers did something meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// They used less than two hundredths of a core.
    Idle,
    /// They used that or more.
    Load,
}
