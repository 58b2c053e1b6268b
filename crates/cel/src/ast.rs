//! The syntax tree. Macros are expanded while parsing; what they expand to has nodes of its own instead of cel-go's
//! generic fold, so that the checker, the estimate and the evaluator see what is meant and each list is built in place.

use std::sync::Arc;

/// An index into the tables that the checker fills: one for each node of a tree.
pub(crate) type Id = u32;

/// A place in the source: line (from 1) and column (from 0), counted in code points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    /// A name, with a leading dot when the source had one.
    Ident(Arc<str>),
    Select(Box<Select>),
    /// `has(operand.field)`
    Has(Box<Select>),
    /// `&&` of two or more, flattened.
    And(Vec<Expr>),
    /// `||` of two or more, flattened.
    Or(Vec<Expr>),
    Conditional(Box<[Expr; 3]>),
    /// A function, an operator by its name in CEL's standard definitions (`_+_`), or a method when there is a target.
    Call(Box<Call>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Message(Box<Message>),
    Comprehension(Box<Comprehension>),
    /// `let name = value in body`, what optMap and sortBy expand to.
    Bind(Box<Bind>),
}

#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) operand: Expr,
    pub(crate) field: Arc<str>,
    /// `operand.?field`
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: Arc<str>,
    pub(crate) target: Option<Expr>,
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) optional: bool,
    pub(crate) value: Expr,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) optional: bool,
    pub(crate) key: Expr,
    pub(crate) value: Expr,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: Arc<str>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) id: Id,
    pub(crate) name: Arc<str>,
    pub(crate) optional: bool,
    pub(crate) value: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// `map` and `transformList`: a list of what the body gives, of elements that pass the filter.
    Map,
    /// A list of the elements for which the body holds.
    Filter,
    /// `transformMap`: the keys, with what the body gives.
    TransformMap,
    /// `transformMapEntry`: the entries of the maps that the body gives.
    TransformMapEntry,
}

#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) fold: Fold,
    pub(crate) range: Expr,
    pub(crate) variable: Arc<str>,
    /// The second variable of a two-variable comprehension; the first is then the index or key.
    pub(crate) second: Option<Arc<str>>,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) name: Arc<str>,
    pub(crate) value: Expr,
    pub(crate) body: Expr,
}

impl Kind {
    /// Calls the function with each child.
    pub(crate) fn each_child<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        match self {
            Self::Literal(_) | Self::Ident(_) => {}
            Self::Select(select) | Self::Has(select) => f(&select.operand),
            Self::And(terms) | Self::Or(terms) => terms.iter().for_each(f),
            Self::Conditional(parts) => parts.iter().for_each(f),
            Self::Call(call) => call.target.iter().chain(&call.args).for_each(f),
            Self::List(elements) => elements.iter().map(|element| &element.value).for_each(f),
            Self::Map(entries) => entries
                .iter()
                .flat_map(|entry| [&entry.key, &entry.value])
                .for_each(f),
            Self::Message(message) => message.fields.iter().map(|field| &field.value).for_each(f),
            Self::Comprehension(fold) => [&fold.range, &fold.body]
                .into_iter()
                .chain(&fold.filter)
                .for_each(f),
            Self::Bind(bind) => [&bind.value, &bind.body].into_iter().for_each(f),
        }
    }
}
