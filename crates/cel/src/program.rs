//! A compiled expression, and its evaluation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::budget::{Budget, EvalError};
use crate::context::Context;
use crate::estimate::{Estimate, estimate};
use crate::eval::Evaluator;
use crate::info::{Info, Meaning, Variable};
use crate::literals::patterns;
use crate::parser::Ast;
use crate::regexp::Regexp;
use crate::types::Type;
use crate::value::Value;
use crate::variables::Variables;

/// A compiled expression: checked, and evaluated as often as there is data.
#[derive(Debug)]
pub struct Program {
    ast: Ast,
    infos: Vec<Info>,
    variables: BTreeMap<Arc<str>, Variable>,
    patterns: HashMap<Arc<str>, Regexp>,
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
