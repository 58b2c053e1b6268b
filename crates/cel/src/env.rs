//! What expressions are compiled against: Kubernetes' functions and the variables that a caller declares.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::{Declarations, check};
use crate::info::Variable;
use crate::literals;
use crate::named;
use crate::parser::parse;
use crate::program::Program;
use crate::source::CompileError;
use crate::types::Decl;
use crate::types::Type;

/// An environment: what names mean in an expression.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<Arc<str>, Variable>,
    mutation: bool,
}

impl Env {
    /// Kubernetes' environment of 1.36, without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable that holds data, as a schema or [`Decl::dynamic`] describes it.
    #[must_use]
    pub fn data(mut self, name: &str, decl: impl Into<Arc<Decl>>) -> Self {
        self.variables
            .insert(name.into(), Variable::Data(decl.into()));
        self
    }

    /// Declares a variable that holds data which may not be there: its value is [`Value::Optional`](crate::Value).
    #[must_use]
    pub fn optional(mut self, name: &str, decl: impl Into<Arc<Decl>>) -> Self {
        self.variables
            .insert(name.into(), Variable::Optional(decl.into()));
        self
    }

    /// Declares a variable of any type.
    #[must_use]
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.into(), Variable::Typed(ty));
        self
    }

    /// Declares `authorizer`, and with `request` set `authorizer.requestResource`.
    #[must_use]
    pub fn authorizer(self, request: bool) -> Self {
        let env = self.variable("authorizer", Type::Named(named::AUTHORIZER));
        if request {
            env.variable(
                "authorizer.requestResource",
                Type::Named(named::RESOURCE_CHECK),
            )
        } else {
            env
        }
    }

    /// Lets expressions make `Object{...}`, `Object.path{...}` and `JSONPatch{...}`, as mutations do.
    #[must_use]
    pub fn mutation(mut self) -> Self {
        self.mutation = true;
        self
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// When it is no expression, names what isn't declared, or calls what can't take its arguments.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let ast = parse(source)?;
        let declared = Declarations {
            variables: &self.variables,
            mutation: self.mutation,
        };
        let infos = check(&ast, source, &declared)?;
        literals::check(&ast, &infos, source)?;
        Ok(Program::new(ast, infos, self.variables.clone()))
    }
}
