//! Types of expressions; and declarations: the types of data, with what an estimate needs to know of its sizes and what
//! equality needs to know of its lists.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A composite type with more parts than this counts as `dyn`: an expression may nest maps so that the type doubles with
/// each level.
const MAX_WEIGHT: u32 = 10_000;

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything: checked when evaluated.
    Dyn,
    /// What could not be typed; only in errors.
    Error,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`: 64 bits, signed.
    Int,
    /// `uint`: 64 bits, unsigned.
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `list(T)`, `map(K, V)`, `optional_type(T)`, `type(T)`
    Composite(Composite, Arc<Parts>),
    /// A type of Kubernetes' libraries, by its name.
    Named(&'static str),
    /// An object with declared fields.
    Object(Arc<ObjectDecl>),
    /// An object of a mutation by its path, like `Object.spec`: any field, and made by construction only.
    Dynamic(Arc<str>),
    /// A type variable.
    #[doc(hidden)]
    Variable(u32),
}

/// Which composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Composite {
    /// `list(T)`
    List,
    /// `map(K, V)`
    Map,
    /// `optional_type(T)`
    Optional,
    /// `type(T)`: the type of a type.
    Type,
}

/// The parameters of a composite type.
#[derive(Debug)]
pub struct Parts {
    pub(crate) types: Vec<Type>,
    weight: u32,
}

impl Type {
    /// `list(element)`
    #[must_use]
    pub fn list(element: Self) -> Self {
        Self::composite(Composite::List, vec![element])
    }

    /// `map(key, value)`
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::composite(Composite::Map, vec![key, value])
    }

    /// `optional_type(inner)`
    #[must_use]
    pub fn optional(inner: Self) -> Self {
        Self::composite(Composite::Optional, vec![inner])
    }

    /// `type(of)`
    #[must_use]
    pub fn of(of: Self) -> Self {
        Self::composite(Composite::Type, vec![of])
    }

    pub(crate) fn composite(kind: Composite, types: Vec<Self>) -> Self {
        let weight = types
            .iter()
            .fold(1_u32, |sum, part| sum.saturating_add(part.weight()));
        if weight > MAX_WEIGHT {
            return Self::Dyn;
        }
        Self::Composite(kind, Arc::new(Parts { types, weight }))
    }

    fn weight(&self) -> u32 {
        if let Self::Composite(_, parts) = self {
            parts.weight
        } else {
            1
        }
    }

    /// The parameters: none for what is no composite.
    #[must_use]
    pub fn parameters(&self) -> &[Self] {
        if let Self::Composite(_, parts) = self {
            &parts.types
        } else {
            &[]
        }
    }

    pub(crate) fn is(&self, kind: Composite) -> bool {
        matches!(self, Self::Composite(found, _) if *found == kind)
    }

    /// Whether anything may be here: `dyn`, or what is in error already.
    #[must_use]
    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The type inside an optional, and whether it was one.
    pub(crate) fn unwrapped(&self) -> (&Self, bool) {
        match self {
            Self::Composite(Composite::Optional, parts) => {
                (parts.types.first().unwrap_or(&Self::Dyn), true)
            }
            other => (other, false),
        }
    }

    /// Whether two types are the same, dyn and variables included.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Composite(a, x), Self::Composite(b, y)) => {
                a == b
                    && (Arc::ptr_eq(x, y)
                        || (x.types.len() == y.types.len()
                            && x.types.iter().zip(&y.types).all(|(a, b)| a.same(b))))
            }
            (Self::Named(a), Self::Named(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (Self::Dynamic(a), Self::Dynamic(b)) => a == b,
            (Self::Variable(a), Self::Variable(b)) => a == b,
            _ => {
                std::mem::discriminant(self) == std::mem::discriminant(other)
                    && self.weight() == 1
                    && self.is_simple()
            }
        }
    }

    fn is_simple(&self) -> bool {
        !matches!(
            self,
            Self::Composite(..)
                | Self::Named(_)
                | Self::Object(_)
                | Self::Dynamic(_)
                | Self::Variable(_)
        )
    }

    /// Whether the type admits null beside its values.
    pub(crate) fn nullable(&self) -> bool {
        matches!(
            self,
            Self::Named(_)
                | Self::Object(_)
                | Self::Dynamic(_)
                | Self::Duration
                | Self::Timestamp
                | Self::Null
        ) || self.is(Composite::Optional)
    }

    fn less_specific(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Variable(_), _) => true,
            (_, Self::Dyn | Self::Variable(_)) => false,
            (Self::Composite(Composite::Type, _), Self::Composite(Composite::Type, _)) => true,
            (Self::Composite(a, x), Self::Composite(b, y)) => {
                a == b
                    && x.types
                        .iter()
                        .zip(&y.types)
                        .all(|(a, b)| a.less_specific(b))
            }
            (a, b) => a.same(b),
        }
    }

    /// The more general of two types that agree.
    pub(crate) fn most_general(self, other: Self) -> Self {
        if self.less_specific(&other) {
            self
        } else {
            other
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Error => "!error!",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::Named(name) => name,
            Self::Object(object) => &object.name,
            Self::Dynamic(name) => name,
            Self::Variable(number) => return write!(f, "_var{number}"),
            Self::Composite(kind, parts) => {
                f.write_str(match kind {
                    Composite::List => "list",
                    Composite::Map => "map",
                    Composite::Optional => "optional_type",
                    Composite::Type => "type",
                })?;
                for (i, part) in parts.types.iter().enumerate() {
                    write!(f, "{}{part}", if i == 0 { "(" } else { ", " })?;
                }
                return f.write_str(")");
            }
        })
    }
}

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
    /// By the name that expressions use; of a schema's properties it is escaped ([`crate::escape`]).
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

    /// An object with these fields, for variables that a caller declares (`request`, ...). Expressions name them as JSON does,
    /// reserved words included (`request.namespace`): only the properties of schemas are escaped.
    #[must_use]
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, decl)| {
            let field = FieldDecl {
                name: name.to_owned(),
                decl: Arc::new(decl),
            };
            (name.to_owned(), field)
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
