//! The meters of one evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use crate::budget::{Budget, EvalError, PER_CALL_LIMIT};
use crate::regexp::Regexp;

/// The most bytes that one evaluation makes of values, those that it drops included. What costs by the reference's rules
/// one unit (`a + a` of lists) could double the memory with each link of a chain.
pub(crate) const MEMORY_LIMIT: usize = 64 << 20;
/// How deep evaluations nest, those that variables begin included.
const MAX_DEPTH: u32 = 600;
/// What compiling a regular expression costs for each of its states, when it isn't in the expression's text.
const COMPILE_COST: u64 = 20;

/// What functions work with: the meters of one evaluation.
pub(crate) struct Context<'p> {
    pub(crate) budget: &'p mut Budget,
    used: u64,
    memory: usize,
    visited: u64,
    known: &'p HashMap<Arc<str>, Regexp>,
    compiled: HashMap<Arc<str>, Regexp>,
}

impl<'p> Context<'p> {
    pub(crate) fn new(budget: &'p mut Budget, known: &'p HashMap<Arc<str>, Regexp>) -> Self {
        Self {
            budget,
            used: 0,
            memory: 0,
            visited: 0,
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
        let affordable = units <= self.budget.left() && self.used <= PER_CALL_LIMIT;
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

    /// Pays for an element that equality comes to: a tenth unit. By the reference's rules only the number of elements
    /// counts, whatever is in them.
    pub(crate) fn visit(&mut self) -> Result<(), EvalError> {
        self.visited += 1;
        if self.visited.is_multiple_of(10) {
            self.charge(1)
        } else {
            Ok(())
        }
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
        let (weight, regexp) = Regexp::compile_weighed(pattern);
        // What was found to be too large was looked at, too.
        self.charge(weight.saturating_mul(COMPILE_COST))?;
        let regexp = regexp.map_err(EvalError::new)?;
        self.allocate(pattern.len())?;
        self.compiled.insert(pattern.into(), regexp.clone());
        Ok(regexp)
    }
}
