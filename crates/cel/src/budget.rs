//! What an evaluation may cost, and how it fails.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::regexp::Regexp;

/// The most that one evaluation costs, in units of about 50 ns (Kubernetes' `PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The most that all rules of one object cost together (Kubernetes' `RuntimeCELCostBudget`).
pub const PER_OBJECT_LIMIT: u64 = 10_000_000;
/// The most that the match conditions of one policy or webhook cost together, a fourth of an object's.
pub const MATCH_CONDITIONS_LIMIT: u64 = PER_OBJECT_LIMIT / 4;
/// The most bytes that one evaluation makes of values, those that it drops included. What costs by the reference's rules
/// one unit (`a + a` of lists) could double the memory with each link of a chain.
pub(crate) const MEMORY_LIMIT: usize = 64 << 20;
/// How deep evaluations nest, those that variables begin included.
const MAX_DEPTH: u32 = 600;
/// What compiling a regular expression costs for each of its states, when it isn't in the expression's text.
const COMPILE_COST: u64 = 20;

/// What is left for evaluations that share a budget.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    depth: u32,
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

/// What functions work with: the meters of one evaluation.
pub(crate) struct Context<'p> {
    pub(crate) budget: &'p mut Budget,
    used: u64,
    memory: usize,
    known: &'p HashMap<Arc<str>, Regexp>,
    compiled: HashMap<Arc<str>, Regexp>,
}

impl<'p> Context<'p> {
    pub(crate) fn new(budget: &'p mut Budget, known: &'p HashMap<Arc<str>, Regexp>) -> Self {
        Self {
            budget,
            used: 0,
            memory: 0,
            known,
            compiled: HashMap::new(),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Pays for something, before it is done.
    pub(crate) fn charge(&mut self, units: u64) -> Result<(), EvalError> {
        self.used = self.used.saturating_add(units);
        let affordable = units <= self.budget.left && self.used <= PER_CALL_LIMIT;
        self.budget.spend(units);
        if affordable {
            Ok(())
        } else {
            Err(EvalError::too_expensive())
        }
    }

    /// Pays for going through so many bytes or nodes where the reference's rules take nothing for it: a thousandth unit
    /// each, so that no rule that a person writes notices.
    pub(crate) fn work(&mut self, amount: usize) -> Result<(), EvalError> {
        self.charge(u64::try_from(amount / 1_000).unwrap_or(u64::MAX))
    }

    /// Pays for bytes that are about to be made.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MEMORY_LIMIT {
            Err(EvalError::too_expensive())
        } else {
            Ok(())
        }
    }

    /// Pays for a list of so many elements.
    pub(crate) fn allocate_list(&mut self, elements: usize) -> Result<(), EvalError> {
        self.allocate(elements.saturating_mul(size_of::<crate::value::Value<'_>>()))
    }

    pub(crate) fn enter(&mut self) -> Result<(), EvalError> {
        if self.budget.depth >= MAX_DEPTH {
            return Err(EvalError::too_expensive());
        }
        self.budget.depth += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.budget.depth -= 1;
    }

    /// A compiled regular expression: those in the expression's text are there; others are compiled once in an
    /// evaluation, and paid for.
    pub(crate) fn regexp(&mut self, pattern: &str) -> Result<Regexp, EvalError> {
        if let Some(regexp) = self
            .known
            .get(pattern)
            .or_else(|| self.compiled.get(pattern))
        {
            return Ok(regexp.clone());
        }
        self.charge(u64::try_from(pattern.len()).unwrap_or(u64::MAX))?;
        let regexp = Regexp::compile(pattern).map_err(EvalError::new)?;
        self.charge(regexp.weight().saturating_mul(COMPILE_COST))?;
        self.allocate(pattern.len())?;
        self.compiled.insert(pattern.into(), regexp.clone());
        Ok(regexp)
    }
}
