//! Types of expressions, and how the checker relates them.

use std::fmt;
use std::sync::Arc;

use crate::decl::ObjectDecl;

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
    fn nullable(&self) -> bool {
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

/// What type variables stand for, with the changes since a mark, so that an attempt can be undone.
#[derive(Debug, Default)]
pub(crate) struct Substitutions {
    bound: Vec<Option<Type>>,
    changes: Vec<(u32, Option<Type>)>,
}

/// How deep types are followed through variables; beyond that they count as dyn.
const MAX_STEPS: u32 = 300;

impl Substitutions {
    pub(crate) fn fresh(&mut self) -> Type {
        let number = u32::try_from(self.bound.len()).unwrap_or(u32::MAX);
        self.bound.push(None);
        Type::Variable(number)
    }

    fn get(&self, number: u32) -> Option<&Type> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.bound.get(number))?
            .as_ref()
    }

    fn bind(&mut self, number: u32, to: Type) {
        if let Some(slot) = usize::try_from(number)
            .ok()
            .and_then(|number| self.bound.get_mut(number))
        {
            self.changes.push((number, slot.replace(to)));
        }
    }

    /// The type with what its variables stand for; with `free` set, unbound variables become dyn.
    pub(crate) fn apply(&self, of: &Type, free: bool) -> Type {
        self.apply_within(of, free, MAX_STEPS)
    }

    fn apply_within(&self, of: &Type, free: bool, steps: u32) -> Type {
        let Some(steps) = steps.checked_sub(1) else {
            return Type::Dyn;
        };
        match of {
            Type::Variable(number) => match self.get(*number) {
                Some(bound) => self.apply_within(bound, free, steps),
                None if free => Type::Dyn,
                None => of.clone(),
            },
            Type::Composite(kind, parts) => {
                let types = parts
                    .types
                    .iter()
                    .map(|part| self.apply_within(part, free, steps))
                    .collect();
                Type::composite(*kind, types)
            }
            other => other.clone(),
        }
    }

    /// Whether a value of the second type may stand where the first is declared; on success variables are bound.
    pub(crate) fn assign(&mut self, to: &Type, from: &Type) -> bool {
        self.assign_all(std::slice::from_ref(to), std::slice::from_ref(from))
    }

    pub(crate) fn assign_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        let mark = self.changes.len();
        let fits = to.len() == from.len()
            && to
                .iter()
                .zip(from)
                .all(|(to, from)| self.fits(to, from, MAX_STEPS));
        if !fits {
            while self.changes.len() > mark {
                let Some((number, old)) = self.changes.pop() else {
                    break;
                };
                if let Some(slot) = usize::try_from(number)
                    .ok()
                    .and_then(|number| self.bound.get_mut(number))
                {
                    *slot = old;
                }
            }
        }
        fits
    }

    fn fits(&mut self, a: &Type, b: &Type, steps: u32) -> bool {
        let Some(steps) = steps.checked_sub(1) else {
            return true;
        };
        if let Type::Variable(number) = b {
            let (valid, bound) = self.substitutes(a, *number, steps);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Variable(number) = a {
            return self.substitutes(b, *number, steps).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => other.nullable(),
            (Type::Composite(Composite::Type, _), Type::Composite(Composite::Type, _)) => true,
            (Type::Composite(k, x), Type::Composite(l, y)) => {
                k == l
                    && x.types.len() == y.types.len()
                    && x.types
                        .iter()
                        .zip(&y.types)
                        .all(|(a, b)| self.fits(a, b, steps))
            }
            (a, b) => a.same(b),
        }
    }

    /// Whether the type may stand for the variable, and whether the variable had a meaning before.
    fn substitutes(&mut self, with: &Type, variable: u32, steps: u32) -> (bool, bool) {
        if with.same(&Type::Variable(variable)) {
            return (true, true);
        }
        if let Some(known) = self.get(variable).cloned() {
            if with.same(&known) {
                return (true, true);
            }
            if !self.fits(with, &known, steps) {
                return (false, true);
            }
            let general = with.clone().most_general(known);
            if self.free_of(variable, &general, steps) {
                self.bind(variable, general);
            }
            return (true, true);
        }
        if self.free_of(variable, with, steps) {
            self.bind(variable, with.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether the variable does not occur in the type.
    fn free_of(&self, variable: u32, within: &Type, steps: u32) -> bool {
        let Some(steps) = steps.checked_sub(1) else {
            return false;
        };
        match within {
            Type::Variable(number) if *number == variable => false,
            Type::Variable(number) => self
                .get(*number)
                .is_none_or(|bound| self.free_of(variable, bound, steps)),
            Type::Composite(_, parts) => parts
                .types
                .iter()
                .all(|part| self.free_of(variable, part, steps)),
            _ => true,
        }
    }
}
