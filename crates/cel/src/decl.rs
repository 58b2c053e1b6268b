//! Declarations: the types of data, with what an estimate needs to know of its sizes and what equality needs to know of
//! its lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Type;

/// What data is, as JSON that a schema describes: how it becomes a value, and how large it can get.
#[derive(Debug)]
pub struct Decl {
    /// How the JSON is read.
    pub kind: DeclKind,
    /// The most elements (list, map), code points (string) or bytes there can be; None when nothing is known.
    pub max_elements: Option<u64>,
    /// The fewest bytes that a value takes as JSON.
    pub min_serialized: u64,
}

/// How JSON is read.
#[derive(Debug)]
pub enum DeclKind {
    /// As it is: whole numbers as int, others as double.
    Dyn,
    /// `true` and `false`
    Bool,
    /// A number, as int.
    Int,
    /// A number, as double.
    Double,
    /// A string.
    String,
    /// A string in base64, as bytes.
    Bytes,
    /// A string like `1h30m`, as duration.
    Duration,
    /// A string like `2026-11-29`, as timestamp.
    Date,
    /// A string like `2026-11-29T20:08:41Z`, as timestamp.
    DateTime,
    /// An array.
    List(Arc<Decl>, ListKind),
    /// An object of any keys.
    Map(Arc<Decl>),
    /// An object of declared fields.
    Object(Arc<ObjectDecl>),
    /// No JSON: what an expression or the caller makes, of this type.
    Typed(Type),
}

/// `x-kubernetes-list-type`: when two lists are equal, and what `+` makes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By order; `+` appends.
    Atomic,
    /// Without order; `+` adds what isn't there.
    Set,
    /// Without order, by the values of these keys; `+` replaces elements of the same keys.
    Map(Vec<String>),
}

/// An object with declared fields.
#[derive(Debug)]
pub struct ObjectDecl {
    /// Its name in messages, and in construction.
    pub name: String,
    /// By the name that expressions use ([`crate::escape`]).
    pub fields: BTreeMap<String, FieldDecl>,
}

/// A field of an object.
#[derive(Debug)]
pub struct FieldDecl {
    /// Its name in JSON.
    pub name: String,
    /// What it holds.
    pub decl: Arc<Decl>,
}

static DYN: Decl = Decl::of(DeclKind::Dyn);

impl Decl {
    /// Of any size.
    #[must_use]
    pub const fn of(kind: DeclKind) -> Self {
        Self {
            kind,
            max_elements: None,
            min_serialized: 1,
        }
    }

    /// Anything, of any size.
    #[must_use]
    pub fn dynamic() -> &'static Self {
        &DYN
    }

    /// A list, by order, of any length.
    #[must_use]
    pub fn list(of: Arc<Self>) -> Self {
        Self::of(DeclKind::List(of, ListKind::Atomic))
    }

    /// An object with these fields, named as in JSON; for variables that a caller declares (`request`, ...).
    #[must_use]
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let fields = fields.into_iter().filter_map(|(name, decl)| {
            let field = FieldDecl {
                name: name.to_owned(),
                decl: Arc::new(decl),
            };
            Some((crate::escape::escape(name)?, field))
        });
        Self::of(DeclKind::Object(Arc::new(ObjectDecl {
            name: name.to_owned(),
            fields: fields.collect(),
        })))
    }

    /// The type of an expression that has this value.
    #[must_use]
    pub fn ty(&self) -> Type {
        match &self.kind {
            DeclKind::Dyn => Type::Dyn,
            DeclKind::Bool => Type::Bool,
            DeclKind::Int => Type::Int,
            DeclKind::Double => Type::Double,
            DeclKind::String => Type::String,
            DeclKind::Bytes => Type::Bytes,
            DeclKind::Duration => Type::Duration,
            DeclKind::Date | DeclKind::DateTime => Type::Timestamp,
            DeclKind::List(element, _) => Type::list(element.ty()),
            DeclKind::Map(value) => Type::map(Type::String, value.ty()),
            DeclKind::Object(object) => Type::Object(object.clone()),
            DeclKind::Typed(ty) => ty.clone(),
        }
    }
}
