//! Literals that can be judged before evaluation: durations, timestamps and regular expressions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Expr, Kind, Literal};
use crate::info::Info;
use crate::parser::Ast;
use crate::regexp::Regexp;
use crate::source::CompileError;
use crate::time;

/// The functions whose last string argument (the index) is a regular expression.
fn pattern_of<'e>(expr: &'e Expr, info: &Info) -> Option<&'e Arc<str>> {
    let Kind::Call(call) = &expr.kind else {
        return None;
    };
    let index = match (info.function?.name, &call.target) {
        ("matches" | "find" | "findAll", Some(_)) => 0,
        ("matches", None) => 1,
        _ => return None,
    };
    match &call.args.get(index)?.kind {
        Kind::Literal(Literal::String(pattern)) => Some(pattern),
        _ => None,
    }
}

fn walk<'e>(expr: &'e Expr, infos: &[Info], f: &mut dyn FnMut(&'e Expr, &Info)) {
    if let Some(info) = usize::try_from(expr.id).ok().and_then(|id| infos.get(id)) {
        f(expr, info);
    }
    expr.kind.each_child(&mut |child| walk(child, infos, f));
}

/// Refuses literals that can't be what they are given as.
pub(crate) fn check(ast: &Ast, infos: &[Info], source: &str) -> Result<(), CompileError> {
    let mut errors = CompileError::new(source);
    walk(&ast.root, infos, &mut |expr, info| {
        let Kind::Call(call) = &expr.kind else { return };
        let Some(function) = info.function else {
            return;
        };
        let at = |expr: &Expr| {
            usize::try_from(expr.id)
                .ok()
                .and_then(|id| ast.locations.get(id))
                .copied()
                .unwrap_or_default()
        };
        if let Some(pattern) = pattern_of(expr, info)
            && Regexp::compile(pattern).is_err()
            && let Some(last) = call.args.iter().find(
                |arg| matches!(&arg.kind, Kind::Literal(Literal::String(text)) if text == pattern),
            )
        {
            errors.report(at(last), format!("invalid {} argument", function.name));
        }
        if let [argument] = &call.args[..]
            && let Kind::Literal(Literal::String(text)) = &argument.kind
            && ((function.name == "duration" && time::duration(text).is_none())
                || (function.name == "timestamp" && time::timestamp(text).is_none()))
        {
            errors.report(at(argument), format!("invalid {} argument", function.name));
        }
    });
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.sorted())
    }
}

/// The regular expressions that stand in an expression, compiled once.
pub(crate) fn patterns(ast: &Ast, infos: &[Info]) -> HashMap<Arc<str>, Regexp> {
    let mut patterns = HashMap::new();
    walk(&ast.root, infos, &mut |expr, info| {
        if let Some(pattern) = pattern_of(expr, info)
            && let Ok(regexp) = Regexp::compile(pattern)
        {
            patterns.insert(pattern.clone(), regexp);
        }
    });
    patterns
}
