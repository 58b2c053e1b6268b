//! Calls that are macros: `has`, the comprehensions of one and two variables, `optMap`, `optFlatMap`, `sortBy`.

use std::sync::Arc;

use crate::ast::{Bind, Comprehension, Expr, Fold, Kind, Literal, Location};
use crate::builder::{Builder, Fallible};

/// What a call expands to; the call itself when it is no macro.
pub(crate) fn expand(
    nodes: &mut Builder,
    open: Location,
    name_at: Location,
    target: Option<Expr>,
    name: &str,
    mut args: Vec<Expr>,
) -> Fallible<Expr> {
    let Some(target) = target else {
        if name != "has" || args.len() != 1 {
            return Ok(nodes.call(name_at, name, None, args));
        }
        let argument = args.remove(0);
        let at = nodes.location(&argument);
        return match argument.kind {
            Kind::Select(select) if !select.optional => Ok(nodes.node(open, Kind::Has(select))),
            _ => Err((at, "invalid argument to has() macro".to_owned())),
        };
    };
    let (fold, variables, filtered) = match (name, args.len()) {
        ("all", 2) => (Fold::All, 1, false),
        ("exists", 2) => (Fold::Exists, 1, false),
        ("exists_one" | "existsOne", 2) => (Fold::ExistsOne, 1, false),
        ("map", 2) => (Fold::Map, 1, false),
        ("map", 3) => (Fold::Map, 1, true),
        ("filter", 2) => (Fold::Filter, 1, false),
        ("all", 3) => (Fold::All, 2, false),
        ("exists", 3) => (Fold::Exists, 2, false),
        ("exists_one" | "existsOne", 3) => (Fold::ExistsOne, 2, false),
        ("transformList", 3) => (Fold::Map, 2, false),
        ("transformList", 4) => (Fold::Map, 2, true),
        ("transformMap", 3) => (Fold::TransformMap, 2, false),
        ("transformMap", 4) => (Fold::TransformMap, 2, true),
        ("transformMapEntry", 3) => (Fold::TransformMapEntry, 2, false),
        ("transformMapEntry", 4) => (Fold::TransformMapEntry, 2, true),
        ("optMap", 2) => return optional(nodes, open, target, args, false),
        ("optFlatMap", 2) => return optional(nodes, open, target, args, true),
        ("sortBy", 2) => return sort_by(nodes, open, target, args),
        _ => return Ok(nodes.call(open, name, Some(target), args)),
    };
    let quantifier = matches!(fold, Fold::All | Fold::Exists | Fold::ExistsOne);
    let complaint = if variables == 1 && !quantifier {
        "argument is not an identifier"
    } else {
        "argument must be a simple name"
    };
    let mut args = args.into_iter();
    let mut names = Vec::new();
    for argument in args.by_ref().take(variables) {
        names.push((
            nodes.location(&argument),
            variable(nodes, &argument, complaint)?,
        ));
    }
    let [filter, body] = match (args.next(), args.next()) {
        (Some(filter), Some(body)) if filtered => [Some(filter), Some(body)],
        (body, _) => [None, body],
    };
    let (Some(body), Some((_, first))) = (body, names.first()) else {
        return Err((open, "too few arguments of a macro".to_owned()));
    };
    let second = match names.get(1) {
        Some((at, second)) if second == first => {
            return Err((*at, format!("duplicate variable name: {first}")));
        }
        second => second.map(|(_, name)| name.clone()),
    };
    let variable = first.clone();
    Ok(nodes.node(
        open,
        Kind::Comprehension(Box::new(Comprehension {
            fold,
            range: target,
            variable,
            second,
            filter,
            body,
        })),
    ))
}

fn variable(nodes: &Builder, argument: &Expr, complaint: &str) -> Fallible<Arc<str>> {
    let at = nodes.location(argument);
    match &argument.kind {
        Kind::Ident(name) if name.starts_with('.') => Err((at, complaint.to_owned())),
        Kind::Ident(name) if &**name == "__result__" => Err((
            at,
            "iteration variable overwrites accumulator variable".to_owned(),
        )),
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((at, complaint.to_owned())),
    }
}

fn hidden(nodes: &mut Builder) -> Arc<str> {
    nodes.hidden += 1;
    format!("@hidden{}", nodes.hidden).into()
}

fn bind(nodes: &mut Builder, at: Location, name: Arc<str>, value: Expr, body: Expr) -> Expr {
    nodes.node(at, Kind::Bind(Box::new(Bind { name, value, body })))
}

/// `target.optMap(v, f)`: `target.hasValue() ? optional.of(let v = target.value() in f) : optional.none()`, with the
/// target in a variable: a copy of it in each place would double with each link of a chain.
fn optional(
    nodes: &mut Builder,
    at: Location,
    target: Expr,
    args: Vec<Expr>,
    flat: bool,
) -> Fallible<Expr> {
    let mut args = args.into_iter();
    let (Some(name), Some(body)) = (args.next(), args.next()) else {
        return Err((at, "too few arguments of a macro".to_owned()));
    };
    let complaint = if flat {
        "optFlatMap() variable name must be a simple identifier"
    } else {
        "optMap() variable name must be a simple identifier"
    };
    let name = variable(nodes, &name, complaint)?;
    let held = hidden(nodes);
    let tested = nodes.node(at, Kind::Ident(held.clone()));
    let condition = nodes.call(at, "hasValue", Some(tested), Vec::new());
    let taken = nodes.node(at, Kind::Ident(held.clone()));
    let value = nodes.call(at, "value", Some(taken), Vec::new());
    let mapped = bind(nodes, at, name, value, body);
    let present = if flat {
        mapped
    } else {
        nodes.call(at, "optional.of", None, vec![mapped])
    };
    let absent = nodes.call(at, "optional.none", None, Vec::new());
    let choice = nodes.node(
        at,
        Kind::Conditional(Box::new([condition, present, absent])),
    );
    Ok(bind(nodes, at, held, target, choice))
}

/// `target.sortBy(v, key)`: the target, by the list of its keys.
fn sort_by(nodes: &mut Builder, at: Location, target: Expr, args: Vec<Expr>) -> Fallible<Expr> {
    let mut args = args.into_iter();
    let (Some(name), Some(body)) = (args.next(), args.next()) else {
        return Err((at, "too few arguments of a macro".to_owned()));
    };
    if matches!(target.kind, Kind::Literal(Literal::Null | Literal::Bool(_))) {
        return Err((at, "sortBy can only be applied to a list, identifier, comprehension, call or select expression".to_owned()));
    }
    let variable = variable(
        nodes,
        &name,
        "sortBy() variable name must be a simple identifier",
    )?;
    let held = hidden(nodes);
    let range = nodes.node(at, Kind::Ident(held.clone()));
    let fold = Comprehension {
        fold: Fold::Map,
        range,
        variable,
        second: None,
        filter: None,
        body,
    };
    let keys = nodes.node(at, Kind::Comprehension(Box::new(fold)));
    let sorted = nodes.node(at, Kind::Ident(held.clone()));
    let call = nodes.call(at, "@sortByAssociatedKeys", Some(sorted), vec![keys]);
    Ok(bind(nodes, at, held, target, call))
}
