//! What an evaluation may cost, and how it fails.

use std::fmt;

/// The most that one evaluation costs, in units of about 50 ns (Kubernetes' `PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The most that all rules of one object cost together (Kubernetes' `RuntimeCELCostBudget`).
pub const PER_OBJECT_LIMIT: u64 = 10_000_000;
/// The most that the match conditions of one policy or webhook cost together, a fourth of an object's.
pub const MATCH_CONDITIONS_LIMIT: u64 = PER_OBJECT_LIMIT / 4;
/// What is left for evaluations that share a budget.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    pub(crate) depth: u32,
}

impl Budget {
    /// A budget of so many units.
    #[must_use]
    pub fn new(units: u64) -> Self {
        Self {
            left: units,
            depth: 0,
        }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes out of the budget; it does not go below nothing.
    pub fn spend(&mut self, units: u64) {
        self.left = self.left.saturating_sub(units);
    }
}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    message: String,
    stopped: bool,
}

impl EvalError {
    /// An error like those that expressions make (`no such key: x`): `&&` and `||` may absorb it.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            stopped: false,
        }
    }

    pub(crate) fn no_overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn too_expensive() -> Self {
        Self {
            message: "operation cancelled: actual cost limit exceeded".to_owned(),
            stopped: true,
        }
    }

    /// Whether the evaluation was stopped because it cost too much: nothing absorbs that.
    #[must_use]
    pub fn is_cost_limit(&self) -> bool {
        self.stopped
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EvalError {}
