//! The type checker: which declaration each name means, which overloads a call can have, and the type of each node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Fold, Id, Kind, Literal, Message, Select};
use crate::info::{Info, Meaning, Variable};
use crate::parser::{Ast, qualified_name};
use crate::signatures::{Function, function, type_of_name};
use crate::source::CompileError;
use crate::substitutions::Substitutions;
use crate::types::{Composite, Type};

/// What an expression is checked against.
pub(crate) struct Declarations<'e> {
    pub(crate) variables: &'e BTreeMap<Arc<str>, Variable>,
    /// Whether `Object{}` and `JSONPatch{}` can be made.
    pub(crate) mutation: bool,
}

struct Checker<'e> {
    declared: &'e Declarations<'e>,
    ast: &'e Ast,
    errors: CompileError,
    substitutions: Substitutions,
    infos: Vec<Info>,
    locals: Vec<(Arc<str>, Type)>,
}

pub(crate) fn check(
    ast: &Ast,
    source: &str,
    declared: &Declarations<'_>,
) -> Result<Vec<Info>, CompileError> {
    let blank = Info {
        ty: Type::Error,
        meaning: None,
        function: None,
        overloads: Vec::new(),
        namespaced: false,
    };
    let mut checker = Checker {
        declared,
        ast,
        errors: CompileError::new(source),
        substitutions: Substitutions::default(),
        infos: vec![blank; ast.locations.len()],
        locals: Vec::new(),
    };
    checker.check(&ast.root);
    if !checker.errors.is_empty() {
        return Err(checker.errors.sorted());
    }
    let mut infos = checker.infos;
    for info in &mut infos {
        info.ty = checker.substitutions.apply(&info.ty, true);
    }
    Ok(infos)
}

fn index(id: Id) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

impl<'e> Checker<'e> {
    fn error(&mut self, at: Id, message: String) {
        let at = self
            .ast
            .locations
            .get(index(at))
            .copied()
            .unwrap_or_default();
        self.errors.report(at, message);
    }

    fn info(&mut self, id: Id) -> Option<&mut Info> {
        self.infos.get_mut(index(id))
    }

    fn set(&mut self, id: Id, ty: Type) -> Type {
        if let Some(info) = self.info(id) {
            info.ty = ty.clone();
        }
        ty
    }

    fn undeclared(&mut self, at: Id, name: &str) -> Type {
        self.error(
            at,
            format!("undeclared reference to '{name}' (in container '')"),
        );
        Type::Error
    }

    fn shown(&self, ty: &Type) -> Type {
        self.substitutions.apply(ty, true)
    }

    fn mismatch(&mut self, at: Id, expected: &Type, found: &Type) {
        let message = format!(
            "expected type '{}' but found '{}'",
            self.shown(expected),
            self.shown(found)
        );
        self.error(at, message);
    }

    fn check(&mut self, expr: &'e Expr) -> Type {
        let ty = match &expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(expr.id, name),
            Kind::Select(select) => self.select(expr, select),
            Kind::Has(select) => {
                self.field(expr.id, select, false);
                Type::Bool
            }
            Kind::And(terms) | Kind::Or(terms) => {
                for term in terms {
                    let ty = self.check(term);
                    if !self.substitutions.assign(&Type::Bool, &ty) {
                        self.mismatch(term.id, &Type::Bool, &ty);
                    }
                }
                Type::Bool
            }
            Kind::Conditional(parts) => self.conditional(expr.id, parts),
            Kind::Call(_) => self.call(expr),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Message(message) => self.message(expr.id, message),
            Kind::Comprehension(fold) => self.comprehension(expr.id, fold),
            Kind::Bind(bind) => {
                let value = self.check(&bind.value);
                self.locals.push((bind.name.clone(), value));
                let body = self.check(&bind.body);
                self.locals.pop();
                body
            }
        };
        self.set(expr.id, ty)
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        if let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| &**local == name) {
            return ty.clone();
        }
        match self.global(id, name.trim_start_matches('.')) {
            Some(ty) => ty,
            None => self.undeclared(id, name),
        }
    }

    fn global(&mut self, id: Id, name: &str) -> Option<Type> {
        let declared = self
            .declared
            .variables
            .get_key_value(name)
            .map(|(name, variable)| (name.clone(), variable.ty()));
        let (meaning, ty) = match declared {
            Some((name, ty)) => (Meaning::Variable(name), ty),
            None => {
                let named = type_of_name(name)?;
                (Meaning::Type(named.clone()), Type::of(named))
            }
        };
        if let Some(info) = self.info(id) {
            info.meaning = Some(meaning);
        }
        Some(ty)
    }

    fn select(&mut self, expr: &'e Expr, select: &'e Select) -> Type {
        if !select.optional
            && let Some(name) = qualified_name(expr)
            && !self
                .locals
                .iter()
                .any(|(local, _)| name.split('.').next() == Some(local))
            && let Some(ty) = self.global(expr.id, name.trim_start_matches('.'))
        {
            return ty;
        }
        let ty = self.field(expr.id, select, select.optional);
        self.substitutions.apply(&ty, false)
    }

    fn field(&mut self, id: Id, select: &'e Select, optional: bool) -> Type {
        let operand = self.check(&select.operand);
        let operand = self.substitutions.apply(&operand, false);
        let (target, wrapped) = operand.unwrapped();
        let result = match target {
            Type::Composite(Composite::Map, parts) => {
                parts.types.get(1).cloned().unwrap_or(Type::Dyn)
            }
            Type::Object(object) => match object.fields.get(&*select.field) {
                Some(field) => field.decl.ty(),
                None => {
                    self.error(id, format!("undefined field '{}'", select.field));
                    Type::Error
                }
            },
            Type::Dynamic(name) => match dynamic_field(name, &select.field) {
                Some(ty) => ty,
                None => {
                    self.error(id, format!("undefined field '{}'", select.field));
                    Type::Error
                }
            },
            Type::Variable(_) => {
                self.substitutions.assign(&Type::Dyn, target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    let message = format!(
                        "type '{}' does not support field selection",
                        self.shown(other)
                    );
                    self.error(id, message);
                }
                Type::Dyn
            }
        };
        if wrapped || optional {
            Type::optional(result)
        } else {
            result
        }
    }

    fn conditional(&mut self, id: Id, parts: &'e [Expr; 3]) -> Type {
        let types: Vec<Type> = parts.iter().map(|part| self.check(part)).collect();
        let result = self.substitutions.fresh();
        if !self
            .substitutions
            .assign_all(&[Type::Bool, result.clone(), result.clone()], &types)
        {
            return self.no_overload(id, "_?_:_", &types, false);
        }
        self.substitutions.apply(&result, false)
    }

    fn no_overload(&mut self, id: Id, name: &str, types: &[Type], method: bool) -> Type {
        let types: Vec<String> = types.iter().map(|ty| self.shown(ty).to_string()).collect();
        let signature = match types.split_first() {
            Some((target, rest)) if method => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", types.join(", ")),
        };
        self.error(
            id,
            format!("found no matching overload for '{name}' applied to '{signature}'"),
        );
        Type::Error
    }

    fn call(&mut self, expr: &'e Expr) -> Type {
        let Kind::Call(call) = &expr.kind else {
            return Type::Error;
        };
        let mut types: Vec<Type> = Vec::new();
        for arg in &call.args {
            types.push(self.check(arg));
        }
        let Some(target) = &call.target else {
            let name = call.function.trim_start_matches('.');
            return match function(name, self.declared.mutation) {
                Some(function) => self.resolve(expr.id, function, &types, false),
                None => self.undeclared(expr.id, name),
            };
        };
        if let Some(prefix) = qualified_name(target) {
            let name = format!("{}.{}", prefix.trim_start_matches('.'), call.function);
            if let Some(function) = function(&name, self.declared.mutation) {
                if let Some(info) = self.info(expr.id) {
                    info.namespaced = true;
                }
                return self.resolve(expr.id, function, &types, false);
            }
        }
        types.insert(0, self.check(target));
        match function(&call.function, self.declared.mutation) {
            Some(function) => self.resolve(expr.id, function, &types, true),
            None => self.undeclared(expr.id, &call.function),
        }
    }

    fn resolve(
        &mut self,
        id: Id,
        function: &'static Function,
        types: &[Type],
        method: bool,
    ) -> Type {
        let mut result: Option<Type> = None;
        let mut overloads = Vec::new();
        for overload in function
            .overloads
            .iter()
            .filter(|overload| overload.method == method)
        {
            if overload.parameters.len() != types.len() {
                continue;
            }
            let fresh: Vec<Type> = (0..overload.variables)
                .map(|_| self.substitutions.fresh())
                .collect();
            let parameters: Vec<Type> = overload
                .parameters
                .iter()
                .map(|ty| instantiate(ty, &fresh))
                .collect();
            if !self.substitutions.assign_all(&parameters, types) {
                continue;
            }
            overloads.push(overload.id);
            let found = self
                .substitutions
                .apply(&instantiate(&overload.result, &fresh), false);
            result = Some(match result {
                None => found,
                Some(Type::Dyn) => Type::Dyn,
                Some(before) if before.same(&found) => before,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(info) = self.info(id) {
            info.function = Some(function);
            info.overloads = overloads;
        }
        match result {
            Some(result) => result,
            None => self.no_overload(id, function.name, types, method),
        }
    }

    /// The element's type, of an element that may be optional (`[?x]`).
    fn element(&mut self, value: &'e Expr, optional: bool) -> Type {
        let ty = self.check(value);
        if !optional {
            return ty;
        }
        let resolved = self.substitutions.apply(&ty, false);
        let (inner, wrapped) = resolved.unwrapped();
        if !wrapped && !matches!(inner, Type::Dyn) {
            self.mismatch(value.id, &Type::optional(inner.clone()), inner);
        }
        inner.clone()
    }

    fn join(&mut self, at: Id, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else {
            return current;
        };
        if self.substitutions.assign(&previous, &current) {
            return previous.most_general(current);
        }
        self.mismatch(at, &previous, &current);
        Type::Error
    }

    fn list(&mut self, elements: &'e [crate::ast::Element]) -> Type {
        let mut joined = None;
        for element in elements {
            let ty = self.element(&element.value, element.optional);
            joined = Some(self.join(element.value.id, joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.substitutions.fresh()))
    }

    fn map(&mut self, entries: &'e [crate::ast::Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.check(&entry.key);
            keys = Some(self.join(entry.key.id, keys, key));
            let value = self.element(&entry.value, entry.optional);
            values = Some(self.join(entry.value.id, values, value));
        }
        let mut or_fresh = |ty: Option<Type>| ty.unwrap_or_else(|| self.substitutions.fresh());
        let (key, value) = (or_fresh(keys), or_fresh(values));
        Type::map(key, value)
    }

    fn message(&mut self, id: Id, message: &'e Message) -> Type {
        let name = message.name.trim_start_matches('.');
        let known = self.declared.mutation
            && (name == "Object" || name == "JSONPatch" || name.starts_with("Object."));
        let ty = if known {
            Type::Dynamic(name.into())
        } else if type_of_name(name).is_some() {
            self.error(id, format!("'{name}' is not a message type"));
            Type::Error
        } else {
            self.undeclared(id, name)
        };
        for field in &message.fields {
            let value = self.element(&field.value, field.optional);
            if !known {
                continue;
            }
            match dynamic_field(name, &field.name) {
                None => self.error(field.id, format!("undefined field '{}'", field.name)),
                Some(declared) => {
                    if !self.substitutions.assign(&declared, &value) {
                        let message = format!(
                            "expected type of field '{}' is '{declared}' but provided type is '{}'",
                            field.name,
                            self.shown(&value)
                        );
                        self.error(field.id, message);
                    }
                }
            }
        }
        ty
    }

    /// The types of the variables of a comprehension over this.
    fn range(&mut self, fold: &'e Comprehension) -> [Type; 2] {
        let range = self.check(&fold.range);
        let range = self.substitutions.apply(&range, false);
        match (&range, range.parameters()) {
            (Type::Composite(Composite::List, _), [element]) => match fold.second {
                Some(_) => [Type::Int, element.clone()],
                None => [element.clone(), Type::Error],
            },
            (Type::Composite(Composite::Map, _), [key, value]) => [key.clone(), value.clone()],
            (Type::Dyn | Type::Error | Type::Variable(_), _) => {
                self.substitutions.assign(&Type::Dyn, &range);
                [Type::Dyn, Type::Dyn]
            }
            _ => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    self.shown(&range)
                );
                self.error(fold.range.id, message);
                [Type::Error, Type::Error]
            }
        }
    }

    fn comprehension(&mut self, id: Id, fold: &'e Comprehension) -> Type {
        let [first, second] = self.range(fold);
        self.locals.push((fold.variable.clone(), first.clone()));
        if let Some(name) = &fold.second {
            self.locals.push((name.clone(), second));
        }
        let filter = fold.filter.as_ref().map(|filter| self.check(filter));
        let body = self.check(&fold.body);
        self.locals
            .truncate(self.locals.len() - 1 - usize::from(fold.second.is_some()));
        let result = match fold.fold {
            Fold::All | Fold::Exists => {
                if !self.substitutions.assign(&Type::Bool, &body) {
                    self.mismatch(fold.body.id, &Type::Bool, &body);
                }
                return Type::Bool;
            }
            Fold::ExistsOne => {
                if !self.substitutions.assign(&Type::Bool, &body) {
                    self.no_overload(id, "_?_:_", &[body, Type::Int, Type::Int], false);
                }
                return Type::Bool;
            }
            Fold::Map => Type::list(body),
            Fold::Filter => {
                let list = Type::list(first);
                if !self.substitutions.assign(&Type::Bool, &body) {
                    return self.no_overload(id, "_?_:_", &[body, list.clone(), list], false);
                }
                list
            }
            Fold::TransformMap => Type::map(first, body),
            Fold::TransformMapEntry => {
                let map = Type::map(self.substitutions.fresh(), self.substitutions.fresh());
                if !self.substitutions.assign(&map, &body) {
                    return self.no_overload(id, "cel.@mapInsert", &[map, body], false);
                }
                self.substitutions.apply(&map, false)
            }
        };
        if let Some(filter) = filter
            && !self.substitutions.assign(&Type::Bool, &filter)
        {
            return self.no_overload(id, "_?_:_", &[filter, result.clone(), result], false);
        }
        self.substitutions.apply(&result, false)
    }
}

fn instantiate(ty: &Type, fresh: &[Type]) -> Type {
    match ty {
        Type::Variable(number) => fresh.get(index(*number)).cloned().unwrap_or(Type::Dyn),
        Type::Composite(kind, parts) => Type::composite(
            *kind,
            parts
                .types
                .iter()
                .map(|part| instantiate(part, fresh))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The type of a field of `Object`, `Object.x.y` (anything) or `JSONPatch`.
fn dynamic_field(of: &str, field: &str) -> Option<Type> {
    match (of, field) {
        ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
        ("JSONPatch", "value") => Some(Type::Dyn),
        ("JSONPatch", _) => None,
        _ => Some(Type::Dyn),
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
