//! Where evaluations find the values of variables.

use crate::budget::{Budget, EvalError};
use crate::value::Value;

/// Where an evaluation finds the values of variables.
pub trait Variables<'a> {
    /// The value of a variable by its declared name; None when it has none. What making it costs is taken out of the
    /// budget.
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>>;
}

/// Values that are there.
#[derive(Clone, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a value.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.values.push((name, value));
        self
    }
}

impl<'a> Variables<'a> for Bindings<'a> {
    fn get(&self, name: &str, _: &mut Budget) -> Option<Result<Value<'a>, EvalError>> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| Ok(value.clone()))
    }
}
