//! What is declared, and what the checker found out about the nodes of an expression.

use std::sync::Arc;

use crate::signatures::Function;
use crate::types::{Decl, Type};

/// A declared variable.
#[derive(Clone, Debug)]
pub(crate) enum Variable {
    /// Data, as a schema describes it.
    Data(Arc<Decl>),
    /// Data that may not be there: an optional value.
    Optional(Arc<Decl>),
    /// Anything of a type.
    Typed(Type),
}

impl Variable {
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Data(decl) => decl.ty(),
            Self::Optional(decl) => Type::optional(decl.ty()),
            Self::Typed(ty) => ty.clone(),
        }
    }

    pub(crate) fn decl(&self) -> Option<&Decl> {
        match self {
            Self::Data(decl) | Self::Optional(decl) => Some(decl),
            Self::Typed(_) => None,
        }
    }
}

/// What the checker found out about a node.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) ty: Type,
    /// For a name or a chain of selections that is a declared variable or a type.
    pub(crate) meaning: Option<Meaning>,
    /// For a call.
    pub(crate) function: Option<&'static Function>,
    /// Ids of the overloads that fit.
    pub(crate) overloads: Vec<&'static str>,
    /// For a call like `sets.contains(a, b)`: what looks like the target is part of the function's name.
    pub(crate) namespaced: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Variable(Arc<str>),
    Type(Type),
}
