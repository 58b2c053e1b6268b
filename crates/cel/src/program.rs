//! A compiled expression, and its evaluation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::budget::{Budget, Context, EvalError};
use crate::check::{Info, Meaning};
use crate::env::Variable;
use crate::estimate::{Estimate, estimate};
use crate::eval::Evaluator;
use crate::literals::patterns;
use crate::parser::Ast;
use crate::regexp::Regexp;
use crate::types::{Composite, Type};
use crate::value::{Text, Value};

/// A compiled expression: checked, and evaluated as often as there is data.
#[derive(Debug)]
pub struct Program {
    ast: Ast,
    infos: Vec<Info>,
    variables: BTreeMap<Arc<str>, Variable>,
    patterns: HashMap<Arc<str>, Regexp>,
}

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

impl Program {
    pub(crate) fn new(ast: Ast, infos: Vec<Info>, variables: BTreeMap<Arc<str>, Variable>) -> Self {
        let patterns = patterns(&ast, &infos);
        let used = |name: &Arc<str>| {
            infos.iter().any(
                |info| matches!(&info.meaning, Some(Meaning::Variable(known)) if known == name),
            )
        };
        let variables = variables
            .into_iter()
            .filter(|(name, _)| used(name))
            .collect();
        Self {
            ast,
            infos,
            variables,
            patterns,
        }
    }

    /// The type of its value.
    #[must_use]
    pub fn output(&self) -> &Type {
        usize::try_from(self.ast.root.id)
            .ok()
            .and_then(|id| self.infos.get(id))
            .map_or(&Type::Dyn, |info| &info.ty)
    }

    /// Whether it names a declared variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains_key(variable)
    }

    /// What evaluating it can cost, by the sizes that the declarations of its variables admit.
    #[must_use]
    pub fn cost(&self) -> Estimate {
        estimate(&self.ast.root, &self.infos, &self.variables)
    }

    /// Evaluates it. One evaluation costs [`PER_CALL_LIMIT`](crate::PER_CALL_LIMIT) at most, and what is left of the
    /// budget; it is stopped there.
    ///
    /// # Errors
    /// What the expression runs into (`no such key: x`), or that it was stopped.
    pub fn evaluate<'a>(
        &self,
        variables: &dyn Variables<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        let context = Context::new(budget, &self.patterns);
        let mut evaluator = Evaluator {
            infos: &self.infos,
            variables,
            context,
            locals: Vec::new(),
        };
        evaluator.eval(&self.ast.root)
    }

    /// Evaluates it, and says what it cost.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_counted<'a>(
        &self,
        variables: &dyn Variables<'a>,
        budget: &mut Budget,
    ) -> (Result<Value<'a>, EvalError>, u64) {
        let context = Context::new(budget, &self.patterns);
        let mut evaluator = Evaluator {
            infos: &self.infos,
            variables,
            context,
            locals: Vec::new(),
        };
        let result = evaluator.eval(&self.ast.root);
        (result, evaluator.context.used())
    }
}

/// The name of a type, as `type()` gives it.
pub(crate) fn type_name<'a>(ty: &Type) -> Text<'a> {
    Text::Borrowed(match ty {
        Type::Null => "null_type",
        Type::Bool => "bool",
        Type::Int => "int",
        Type::Uint => "uint",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Duration => "google.protobuf.Duration",
        Type::Timestamp => "google.protobuf.Timestamp",
        Type::Named(name) => name,
        Type::Composite(Composite::List, _) => "list",
        Type::Composite(Composite::Map, _) => "map",
        Type::Composite(Composite::Optional, _) => "optional_type",
        Type::Composite(Composite::Type, _) => "type",
        Type::Object(object) => return Text::Shared(object.name.as_str().into()),
        Type::Dynamic(name) => return Text::Shared(name.clone()),
        Type::Dyn | Type::Error | Type::Variable(_) => "dyn",
    })
}
