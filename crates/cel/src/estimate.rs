//! What an expression can cost at worst, before there is data: cel-go's estimate with Kubernetes' rules. It decides which
//! rules a CustomResourceDefinition may have.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Call, Comprehension, Expr, Fold, Id, Kind, Literal};
use crate::cost::{AUTHORIZATION_CHECK, CREATE_LIST, CREATE_MAP, CREATE_MESSAGE};
use crate::info::{Info, Meaning, Variable};
use crate::types::{Composite, Type};
use crate::types::{Decl, DeclKind};

mod calls;

/// The least and the most of a size or a cost; sums and products stop at the largest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Estimate {
    pub(crate) const ANY: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    pub(crate) const fn fixed(of: u64) -> Self {
        Self { min: of, max: of }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// By a factor in hundredths, rounded up.
    pub(crate) fn hundredths(self, factor: u64) -> Self {
        let scale = |of: u64| {
            let product = (u128::from(of) * u128::from(factor)).div_ceil(100);
            u64::try_from(product).unwrap_or(u64::MAX)
        };
        Self {
            min: scale(self.min),
            max: scale(self.max),
        }
    }

    /// Going once through a string: a tenth of a unit each.
    pub(crate) fn scanned(self) -> Self {
        self.hundredths(10)
    }
}

/// What is known of the data behind an expression: its declaration, when it is reached from a variable.
type Source<'e> = Option<&'e Decl>;

struct Local<'e> {
    name: Arc<str>,
    source: Source<'e>,
    size: Option<Estimate>,
    entries: Option<Estimate>,
}

pub(crate) struct Estimator<'e> {
    infos: &'e [Info],
    variables: &'e std::collections::BTreeMap<Arc<str>, Variable>,
    locals: Vec<Local<'e>>,
    sources: HashMap<Id, &'e Decl>,
    sizes: HashMap<Id, Estimate>,
    /// The sizes of the elements of what an expression makes.
    entries: HashMap<Id, Estimate>,
}

/// The declaration of a map's keys: the reference knows no length of them.
static KEY: Decl = Decl {
    kind: DeclKind::String,
    max_elements: Some(0),
    min_serialized: 2,
};

pub(crate) fn estimate(
    root: &Expr,
    infos: &[Info],
    variables: &std::collections::BTreeMap<Arc<str>, Variable>,
) -> Estimate {
    let mut estimator = Estimator {
        infos,
        variables,
        locals: Vec::new(),
        sources: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
    };
    estimator.cost(root)
}

impl<'e> Estimator<'e> {
    fn info(&self, expr: &Expr) -> Option<&'e Info> {
        usize::try_from(expr.id)
            .ok()
            .and_then(|id| self.infos.get(id))
    }

    fn ty(&self, expr: &Expr) -> &'e Type {
        self.info(expr).map_or(&Type::Dyn, |info| &info.ty)
    }

    fn local(&self, name: &str) -> Option<&Local<'e>> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn source(&self, expr: &Expr) -> Source<'e> {
        self.sources.get(&expr.id).copied()
    }

    fn set_source(&mut self, expr: &Expr, source: Source<'e>) {
        if let Some(source) = source {
            self.sources.insert(expr.id, source);
        }
    }

    fn set_size(&mut self, expr: &Expr, size: Option<Estimate>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    fn set_entries(&mut self, expr: &Expr, size: Option<Estimate>) {
        if let Some(size) = size {
            self.entries.insert(expr.id, size);
        }
    }

    /// What `size()` of an expression can be.
    fn size(&self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let counted =
            |count: usize| Some(Estimate::fixed(u64::try_from(count).unwrap_or(u64::MAX)));
        match &expr.kind {
            Kind::Literal(Literal::String(text)) => return counted(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => return counted(bytes.len()),
            Kind::Literal(_) => return counted(1),
            Kind::List(elements) => return counted(elements.len()),
            Kind::Map(entries) => return counted(entries.len()),
            _ => {}
        }
        if let Some(max) = self.source(expr).and_then(|source| source.max_elements) {
            return Some(Estimate { min: 0, max });
        }
        if is_scalar(self.ty(expr)) {
            return Some(Estimate::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_any(&self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(Estimate::ANY)
    }

    fn entry_size(&self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.entries.get(&expr.id) {
            return Some(*size);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn cost(&mut self, expr: &'e Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(_) => Estimate::fixed(0),
            Kind::Ident(name) => {
                let source = match self.local(name) {
                    Some(local) => local.source,
                    None => self.variable(expr),
                };
                self.set_source(expr, source);
                Estimate::fixed(1)
            }
            Kind::Select(select) => {
                if self.info(expr).is_some_and(|info| info.meaning.is_some()) {
                    let source = self.variable(expr);
                    self.set_source(expr, source);
                    return Estimate::fixed(1);
                }
                let operand = self.cost(&select.operand);
                let source = self
                    .source(&select.operand)
                    .and_then(|decl| field(decl, &select.field));
                self.set_source(expr, source);
                let counted = matches!(
                    self.ty(&select.operand),
                    Type::Object(_) | Type::Dynamic(_) | Type::Variable(_)
                ) || self.ty(&select.operand).is(Composite::Map);
                operand.plus(Estimate::fixed(u64::from(counted || select.optional)))
            }
            Kind::Has(select) => self.cost(&select.operand),
            Kind::And(terms) | Kind::Or(terms) => {
                let costs: Vec<Estimate> = terms.iter().map(|term| self.cost(term)).collect();
                // The first may decide.
                let min = costs.first().map_or(0, |first| first.min);
                Estimate {
                    min,
                    max: costs
                        .iter()
                        .fold(0, |sum, cost| cost.max.saturating_add(sum)),
                }
            }
            Kind::Conditional(parts) => self.conditional(expr, parts),
            Kind::Call(call) => self.call(expr, call),
            Kind::List(elements) => {
                let mut sum = Estimate::fixed(CREATE_LIST);
                let mut entry: Option<Estimate> = None;
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    let size = self.size_or_any(&element.value);
                    entry = Some(entry.map_or(size, |entry| entry.union(size)));
                }
                self.set_entries(expr, Some(entry.unwrap_or(Estimate::fixed(0))));
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Estimate::fixed(CREATE_MAP);
                let mut entry: Option<Estimate> = None;
                for one in entries {
                    sum = sum.plus(self.cost(&one.key));
                    sum = sum.plus(self.cost(&one.value));
                    let size = self.size_or_any(&one.value);
                    entry = Some(entry.map_or(size, |entry| entry.union(size)));
                }
                self.set_entries(expr, Some(entry.unwrap_or(Estimate::fixed(0))));
                sum
            }
            Kind::Message(message) => {
                let mut sum = Estimate::fixed(CREATE_MESSAGE);
                for field in &message.fields {
                    sum = sum.plus(self.cost(&field.value));
                }
                sum
            }
            Kind::Comprehension(fold) => self.comprehension(expr, fold),
            Kind::Bind(bind) => {
                let value = self.cost(&bind.value);
                self.locals.push(Local {
                    name: bind.name.clone(),
                    source: self.source(&bind.value),
                    size: self.size(&bind.value),
                    entries: self.entry_size(&bind.value),
                });
                let body = self.cost(&bind.body);
                self.locals.pop();
                self.copy_sizes(expr, &bind.body);
                Estimate::fixed(CREATE_LIST).plus(value).plus(body)
            }
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        self.set_size(to, self.size(from));
        self.set_entries(to, self.entry_size(from));
    }

    fn variable(&self, expr: &Expr) -> Source<'e> {
        match &self.info(expr)?.meaning {
            Some(Meaning::Variable(name)) => self.variables.get(name)?.decl(),
            _ => None,
        }
    }

    fn conditional(&mut self, expr: &'e Expr, parts: &'e [Expr; 3]) -> Estimate {
        let [condition, truthy, falsy] = parts;
        let condition = self.cost(condition);
        let branches = self.cost(truthy).union(self.cost(falsy));
        let size = self.size_or_any(truthy).union(self.size_or_any(falsy));
        self.set_size(expr, Some(size));
        if let (Some(a), Some(b)) = (self.entry_size(truthy), self.entry_size(falsy)) {
            self.set_entries(expr, Some(a.union(b)));
        }
        condition.plus(branches)
    }

    /// What the reference takes the elements of a range for that isn't reached from a variable by names: it cuts the first
    /// part off an element's path, where `self` would be, and is left with `self` as it is. Definitions that are in use rely
    /// on it: `(has(self.a) ? self.a : []).exists(x, x.contains("/"))`.
    fn of_pathless(&self, range: &Expr) -> Source<'e> {
        let named = match &range.kind {
            Kind::Ident(_) | Kind::Select(_) => true,
            Kind::Call(call) => matches!(&*call.function, "_[_]" | "_[?_]"),
            _ => false,
        };
        if named {
            return None;
        }
        self.variables.get("self")?.decl()
    }

    fn comprehension(&mut self, expr: &'e Expr, fold: &'e Comprehension) -> Estimate {
        let range = self.cost(&fold.range);
        let source = self.source(&fold.range);
        let list = !self.ty(&fold.range).is(Composite::Map);
        let pathless = self.of_pathless(&fold.range);
        let part = |what: &str| source.map_or(pathless, |source| element(source, what));
        let value = part("values");
        let values = self.entry_size(&fold.range);
        let local = |name: &Arc<str>, source: Source<'e>, size: Option<Estimate>| Local {
            name: name.clone(),
            source,
            size,
            entries: None,
        };
        match &fold.second {
            Some(second) => {
                let key = if list { None } else { part("keys") };
                self.locals.push(local(&fold.variable, key, None));
                self.locals.push(local(second, value, values));
            }
            None if list => self.locals.push(local(&fold.variable, value, values)),
            None => {
                let key = part("keys");
                self.locals.push(local(&fold.variable, key, None));
            }
        }
        let filter = fold.filter.as_ref().map(|filter| self.cost(filter));
        let body = self.cost(&fold.body);
        let made = self.size_or_any(&fold.body);
        self.locals
            .truncate(self.locals.len() - 1 - usize::from(fold.second.is_some()));
        let count = self.size_or_any(&fold.range);
        let (creation, step, result) = match fold.fold {
            Fold::All => (
                0,
                Estimate {
                    min: 3,
                    max: body.max.saturating_add(3),
                },
                1,
            ),
            Fold::Exists => (
                0,
                Estimate {
                    min: 4,
                    max: body.max.saturating_add(4),
                },
                1,
            ),
            Fold::ExistsOne => (0, body.plus(Estimate { min: 1, max: 2 }), 2),
            Fold::Map => (CREATE_LIST, body.plus(Estimate::fixed(2 + CREATE_LIST)), 1),
            Fold::Filter => (
                CREATE_LIST,
                body.plus(Estimate {
                    min: 1,
                    max: 3 + CREATE_LIST,
                }),
                1,
            ),
            Fold::TransformMap => (CREATE_MAP, body.plus(Estimate::fixed(3)), 1),
            Fold::TransformMapEntry => (CREATE_MAP, body.plus(Estimate::fixed(2)), 1),
        };
        let step = match filter {
            Some(filter) => filter.plus(step.union(Estimate::fixed(1))),
            None => step,
        };
        match fold.fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => {
                self.set_size(expr, Some(Estimate::fixed(1)))
            }
            Fold::Filter => {
                self.set_size(expr, Some(count));
                self.set_entries(expr, values);
            }
            Fold::Map | Fold::TransformMap => {
                self.set_size(expr, Some(count));
                self.set_entries(expr, Some(made.union(Estimate::fixed(0))));
            }
            Fold::TransformMapEntry => self.set_size(expr, Some(count)),
        }
        range
            .plus(Estimate::fixed(creation + result))
            .plus(count.times(step))
    }

    fn call(&mut self, expr: &'e Expr, call: &'e Call) -> Estimate {
        let Some(info) = self.info(expr) else {
            return Estimate::fixed(0);
        };
        if &*call.function == "dyn"
            && let [argument] = &call.args[..]
        {
            let cost = self.cost(argument);
            self.copy_sizes(expr, argument);
            return cost.plus(Estimate::fixed(1));
        }
        let target = call.target.as_ref().filter(|_| !info.namespaced);
        let mut sum = Estimate::fixed(0);
        for argument in &call.args {
            sum = sum.plus(self.cost(argument));
        }
        if let Some(target) = target {
            sum = sum.plus(self.cost(target));
        }
        let name = info
            .function
            .map_or(&*call.function, |function| function.name);
        let mut cost: Option<Estimate> = None;
        let mut size: Option<Estimate> = None;
        for overload in &info.overloads {
            let (one, result) = self.overload(name, overload, target, &call.args);
            cost = Some(cost.map_or(one, |cost| cost.union(one)));
            size = match (size, result) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if let ("index_list" | "index_map", [of, _]) = (*overload, &call.args[..]) {
                size = self.entry_size(of).or(size);
                let source = self.source(of).and_then(|source| element(source, "values"));
                self.set_source(expr, source);
            }
            if let ("add_string" | "add_bytes" | "add_list", [a, b]) = (*overload, &call.args[..])
                && let (Some(a), Some(b)) = (self.entry_size(a), self.entry_size(b))
            {
                self.set_entries(expr, Some(a.union(b)));
            }
        }
        let size = size.or_else(|| self.size(expr));
        self.set_size(expr, size);
        sum.plus(cost.unwrap_or(Estimate::fixed(0)))
    }
}

/// The declaration of a field.
fn field<'e>(decl: &'e Decl, name: &str) -> Source<'e> {
    match &decl.kind {
        DeclKind::Object(object) => object.fields.get(name).map(|field| &*field.decl),
        _ => None,
    }
}

/// The declaration of what is in a list or map, or of a map's keys.
fn element<'e>(decl: &'e Decl, what: &str) -> Source<'e> {
    match (&decl.kind, what) {
        (DeclKind::Map(_), "keys") => Some(&KEY),
        (DeclKind::List(element, _) | DeclKind::Map(element), "values") => Some(element),
        _ => None,
    }
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        Type::Composite(Composite::Optional, _) => is_scalar(ty.unwrapped().0),
        _ => false,
    }
}

/// The cost of asking an authorizer, for [`calls`].
const CHECK: Estimate = Estimate::fixed(AUTHORIZATION_CHECK);
