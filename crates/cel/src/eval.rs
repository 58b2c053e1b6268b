//! The evaluator: walks the checked tree, pays for each step, and stops when it can't.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::ast::{Bind, Call, Comprehension, Expr, Fold, Kind, Literal, Select};
use crate::budget::EvalError;
use crate::context::Context;
use crate::cost;
use crate::info::{Info, Meaning};
use crate::types::{Composite, Type};
use crate::value::{Key, Map, Message, Text, Value};
use crate::variables::Variables;

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

pub(crate) struct Evaluator<'p, 'a> {
    pub(crate) infos: &'p [Info],
    pub(crate) variables: &'p dyn Variables<'a>,
    pub(crate) context: Context<'p>,
    pub(crate) locals: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Evaluator<'_, 'a> {
    pub(crate) fn eval(&mut self, expr: &Expr) -> Result<'a> {
        self.context.enter()?;
        let result = match &expr.kind {
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select(select) => self.select(expr, select),
            Kind::Has(select) => self.has(select),
            Kind::And(terms) => self.logic(terms, false),
            Kind::Or(terms) => self.logic(terms, true),
            Kind::Conditional(parts) => self.conditional(parts),
            Kind::Call(call) => self.call(expr, call),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Message(message) => self.message(message),
            Kind::Comprehension(fold) => self.comprehension(fold),
            Kind::Bind(bind) => self.bind(bind),
        };
        self.context.leave();
        result
    }

    fn info(&self, expr: &Expr) -> Option<&Info> {
        usize::try_from(expr.id)
            .ok()
            .and_then(|id| self.infos.get(id))
    }

    fn meaning(&mut self, expr: &Expr) -> Option<Result<'a>> {
        match self.info(expr)?.meaning.clone()? {
            Meaning::Type(ty) => Some(Ok(Value::Type(type_name(&ty)))),
            Meaning::Variable(name) => {
                let value = self.variables.get(&name, self.context.budget);
                Some(value.unwrap_or_else(|| {
                    Err(EvalError::new(format!("no such attribute(s): {name}")))
                }))
            }
        }
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Result<'a> {
        self.context.charge(1)?;
        // What the checker resolved to a declaration was no local.
        if let Some(value) = self.meaning(expr) {
            return value;
        }
        match self.locals.iter().rev().find(|(local, _)| &**local == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(EvalError::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, expr: &Expr, select: &Select) -> Result<'a> {
        if self.info(expr).is_some_and(|info| info.meaning.is_some()) {
            self.context.charge(1)?;
            if let Some(value) = self.meaning(expr) {
                return value;
            }
        }
        let operand = self.eval(&select.operand)?;
        self.context.charge(1)?;
        let (operand, wrapped) = match operand {
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            other => (other, false),
        };
        let field = match operand {
            // As cel-go words it.
            Value::Null if !wrapped && !select.optional => None,
            _ => self.field(&operand, &select.field)?,
        };
        if wrapped || select.optional {
            return Ok(field.map_or(Value::Optional(None), Value::some));
        }
        field.ok_or_else(|| EvalError::new(format!("no such key: {}", select.field)))
    }

    /// A field of an object or an entry of a map; None when it isn't there.
    fn field(
        &mut self,
        operand: &Value<'a>,
        name: &str,
    ) -> std::result::Result<Option<Value<'a>>, EvalError> {
        match operand {
            Value::Map(map) => map.get(name).transpose(),
            Value::Message(message) => Ok(message
                .fields
                .iter()
                .find(|(field, _)| &**field == name)
                .map(|(_, value)| value.clone())),
            Value::Lazy(lazy) => lazy.field(name, self.context.budget).transpose(),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn has(&mut self, select: &Select) -> Result<'a> {
        let operand = self.eval(&select.operand)?;
        let operand = match operand {
            Value::Optional(Some(inner)) => (*inner).clone(),
            Value::Optional(None) => return Ok(Value::Bool(false)),
            other => other,
        };
        // A field that is null counts as set in a map, and an unset field of an object isn't in its JSON.
        Ok(Value::Bool(self.field(&operand, &select.field)?.is_some()))
    }

    /// `&&` and `||`: a term that decides wins over the errors of others.
    fn logic(&mut self, terms: &[Expr], decides: bool) -> Result<'a> {
        let mut error = None;
        for term in terms {
            match self.eval(term) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or_else(|| Some(EvalError::no_overload())),
                Err(stopped) if stopped.is_cost_limit() => return Err(stopped),
                Err(failed) => error = error.or(Some(failed)),
            }
        }
        error.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn conditional(&mut self, parts: &[Expr; 3]) -> Result<'a> {
        let [condition, truthy, falsy] = parts;
        match self.eval(condition)? {
            Value::Bool(true) => self.eval(truthy),
            Value::Bool(false) => self.eval(falsy),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Result<'a> {
        let Some(info) = self.info(expr) else {
            return Err(EvalError::no_overload());
        };
        let (Some(function), namespaced) = (info.function, info.namespaced) else {
            return Err(EvalError::no_overload());
        };
        let target = call.target.as_ref().filter(|_| !namespaced);
        let mut values = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = target {
            values.push(self.eval(target)?);
            // These choose, and evaluate what they choose only.
            if let ("or" | "orValue", [_], [argument]) =
                (function.name, &values[..], &call.args[..])
            {
                let chosen = values.remove(0);
                self.context.charge(1)?;
                return match (chosen, function.name) {
                    (Value::Optional(Some(inner)), "orValue") => Ok((*inner).clone()),
                    (Value::Optional(Some(inner)), _) => Ok(Value::Optional(Some(inner))),
                    (Value::Optional(None), _) => self.eval(argument),
                    _ => Err(EvalError::no_overload()),
                };
            }
        }
        for argument in &call.args {
            values.push(self.eval(argument)?);
        }
        self.context
            .charge(cost::of_call(function.name, target.is_some(), &values))?;
        let result = (function.run)(&mut self.context, function.name, &values)?;
        self.context
            .charge(cost::of_result(function.name, &result))?;
        Ok(result)
    }

    fn list(&mut self, elements: &[crate::ast::Element]) -> Result<'a> {
        self.context.charge(cost::CREATE_LIST)?;
        self.context.allocate_list(elements.len())?;
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.eval(&element.value)?;
            match (element.optional, value) {
                (false, value) => values.push(value),
                (true, Value::Optional(Some(inner))) => values.push((*inner).clone()),
                (true, Value::Optional(None)) => {}
                (true, _) => return Err(EvalError::no_overload()),
            }
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &[crate::ast::Entry]) -> Result<'a> {
        self.context.charge(cost::CREATE_MAP)?;
        self.context.allocate_list(entries.len() * 2)?;
        let mut made = IndexMap::with_capacity(entries.len());
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = self.eval(&entry.value)?;
            let value = match (entry.optional, value) {
                (false, value) => value,
                (true, Value::Optional(Some(inner))) => (*inner).clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return Err(EvalError::no_overload()),
            };
            let Some(key) = Key::of(&key) else {
                return Err(EvalError::new(format!(
                    "unsupported key type: {}",
                    &*key.type_name()
                )));
            };
            if made.contains_key(&key) {
                return Err(EvalError::new(format!("duplicate key in map: {key:?}")));
            }
            made.insert(key, value);
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn message(&mut self, message: &crate::ast::Message) -> Result<'a> {
        self.context.charge(cost::CREATE_MESSAGE)?;
        self.context.allocate_list(message.fields.len() * 2)?;
        let mut fields: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(message.fields.len());
        for field in &message.fields {
            let value = self.eval(&field.value)?;
            let value = match (field.optional, value) {
                (false, value) => value,
                (true, Value::Optional(Some(inner))) => (*inner).clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return Err(EvalError::no_overload()),
            };
            match fields.iter_mut().find(|(name, _)| *name == field.name) {
                Some(known) => known.1 = value,
                None => fields.push((field.name.clone(), value)),
            }
        }
        let name = message.name.trim_start_matches('.').into();
        Ok(Value::Message(Message { name, fields }.into()))
    }

    fn bind(&mut self, bind: &Bind) -> Result<'a> {
        let value = self.eval(&bind.value)?;
        self.locals.push((bind.name.clone(), value));
        let result = self.eval(&bind.body);
        self.locals.pop();
        result
    }

    fn comprehension(&mut self, fold: &Comprehension) -> Result<'a> {
        let range = self.eval(&fold.range)?;
        let keys = if let Value::Map(map) = &range {
            map.keys()
        } else {
            Vec::new()
        };
        let count = match &range {
            Value::List(list) => list.len(),
            Value::Map(map @ (Map::Json(..) | Map::Made(_))) => map.len(),
            other => {
                return Err(EvalError::new(format!(
                    "got '{}', expected iterable type",
                    &*other.type_name()
                )));
            }
        };
        self.context.allocate(keys.len() * size_of::<&str>())?;
        let mut state = crate::fold::State::new(fold.fold);
        if let Some(cost) = state.creation() {
            self.context.charge(cost)?;
        }
        for index in 0..count {
            if state.decided() {
                break;
            }
            let (first, second) = match &range {
                Value::List(list) => {
                    let Some(element) = list.get(index) else {
                        break;
                    };
                    (
                        Value::Int(i64::try_from(index).unwrap_or(i64::MAX)),
                        element,
                    )
                }
                Value::Map(map) => {
                    let Some(entry) = map.entry(index, &keys) else {
                        break;
                    };
                    entry
                }
                _ => break,
            };
            self.step(
                fold,
                &mut state,
                first,
                second,
                matches!(range, Value::Map(_)),
            )?;
        }
        // The result: the accumulator, by its name.
        self.context.charge(state.finish_cost())?;
        state.finish()
    }

    fn step(
        &mut self,
        fold: &Comprehension,
        state: &mut crate::fold::State<'a>,
        first: Value<'a>,
        second: Result<'a>,
        map: bool,
    ) -> std::result::Result<(), EvalError> {
        self.context.charge(state.condition_cost())?;
        let base = self.locals.len();
        let single = match &fold.second {
            Some(name) => {
                self.locals.push((fold.variable.clone(), first.clone()));
                self.locals.push((name.clone(), second?));
                first
            }
            None => {
                let element = if map { first } else { second? };
                self.locals.push((fold.variable.clone(), element.clone()));
                element
            }
        };
        let result = self.fold_one(fold, state, single);
        self.locals.truncate(base);
        result
    }

    fn fold_one(
        &mut self,
        fold: &Comprehension,
        state: &mut crate::fold::State<'a>,
        element: Value<'a>,
    ) -> std::result::Result<(), EvalError> {
        if let Some(filter) = &fold.filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return self.context.charge(1),
                _ => return Err(EvalError::no_overload()),
            }
        }
        if matches!(fold.fold, Fold::All | Fold::Exists) {
            // The accumulator is a term, too.
            self.context.charge(1)?;
            return match self.eval(&fold.body) {
                Err(stopped) if stopped.is_cost_limit() => Err(stopped),
                result => {
                    state.judge(result);
                    Ok(())
                }
            };
        }
        let body = self.eval(&fold.body)?;
        state.take(&mut self.context, element, body)
    }
}

pub(crate) fn literal_value<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes((**bytes).into()),
    }
}

/// The name of a type, as `type()` gives it.
fn type_name<'a>(ty: &Type) -> Text<'a> {
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
