//! Strings: the standard functions, version 2 of cel-go's extension, and regular expressions. Positions are code points.

use crate::budget::EvalError;
use crate::context::Context;
use crate::functions::show;
use crate::value::{List, Value};

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

pub(super) fn run<'a>(context: &mut Context<'_>, name: &str, args: &[Value<'a>]) -> Result<'a> {
    match (name, args) {
        ("join", [Value::List(list)]) => join(context, list, ""),
        ("join", [Value::List(list), Value::String(separator)]) => join(context, list, separator),
        (name, [Value::String(text), rest @ ..]) => of_string(context, name, text, rest),
        _ => Err(EvalError::no_overload()),
    }
}

fn of_string<'a>(
    context: &mut Context<'_>,
    name: &str,
    text: &str,
    rest: &[Value<'a>],
) -> Result<'a> {
    match (name, rest) {
        ("contains", [Value::String(part)]) => Ok(Value::Bool(text.contains(&**part))),
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(text.starts_with(&**part))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(text.ends_with(&**part))),
        ("matches", [Value::String(pattern)]) => {
            Ok(Value::Bool(context.regexp(pattern)?.matches(text)))
        }
        ("find", [Value::String(pattern)]) => {
            let regexp = context.regexp(pattern)?;
            let found = regexp.find(text).unwrap_or_default();
            context.allocate(found.len())?;
            Ok(Value::made(found))
        }
        ("findAll", [Value::String(pattern)]) => find_all(context, text, pattern, -1),
        ("findAll", [Value::String(pattern), Value::Int(most)]) => {
            find_all(context, text, pattern, *most)
        }
        ("charAt", [Value::Int(at)]) => char_at(text, *at),
        ("lowerAscii", []) => made(context, text.to_ascii_lowercase()),
        ("upperAscii", []) => made(context, text.to_ascii_uppercase()),
        ("trim", []) => made(context, text.trim().to_owned()),
        ("replace", [Value::String(old), Value::String(new)]) => {
            replace(context, text, old, new, -1)
        }
        ("replace", [Value::String(old), Value::String(new), Value::Int(most)]) => {
            replace(context, text, old, new, *most)
        }
        ("split", [Value::String(separator)]) => split(context, text, separator, -1),
        ("split", [Value::String(separator), Value::Int(most)]) => {
            split(context, text, separator, *most)
        }
        ("substring", [Value::Int(start)]) => substring(context, text, *start, None),
        ("substring", [Value::Int(start), Value::Int(end)]) => {
            substring(context, text, *start, Some(*end))
        }
        ("format", [Value::List(args)]) => show::format(context, text, args),
        ("strings.quote", []) => quote(context, text),
        ("jsonpatch.escapeKey", []) => made(context, text.replace('~', "~0").replace('/', "~1")),
        _ => Err(EvalError::no_overload()),
    }
}

fn made<'a>(context: &mut Context<'_>, text: String) -> Result<'a> {
    context.allocate(text.len())?;
    Ok(Value::made(text))
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

/// The byte at which a code point begins; the length of the string for the one behind the last.
fn byte_of(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .nth(index)
}

fn char_at<'a>(text: &str, at: i64) -> Result<'a> {
    let start = byte_of(text, at).ok_or_else(|| out_of_range(at))?;
    Ok(Value::made(
        text[start..]
            .chars()
            .next()
            .map(String::from)
            .unwrap_or_default(),
    ))
}

fn substring<'a>(
    context: &mut Context<'_>,
    text: &str,
    start: i64,
    end: Option<i64>,
) -> Result<'a> {
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(EvalError::new(format!(
            "invalid substring range. start: {start}, end: {end}"
        )));
    }
    let from = byte_of(text, start).ok_or_else(|| out_of_range(start))?;
    let to = match end {
        Some(end) => byte_of(text, end).ok_or_else(|| out_of_range(end))?,
        None => text.len(),
    };
    made(context, text[from..to].to_owned())
}

fn find_all<'a>(context: &mut Context<'_>, text: &str, pattern: &str, most: i64) -> Result<'a> {
    let regexp = context.regexp(pattern)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for part in regexp.find_all(text).take(most) {
        context.allocate(part.len())?;
        context.allocate_list(1)?;
        found.push(Value::made(part));
    }
    Ok(Value::list(found))
}

/// Go's `strings.Replace`: an empty old string is before each code point and at the end.
fn replace<'a>(
    context: &mut Context<'_>,
    text: &str,
    old: &str,
    new: &str,
    most: i64,
) -> Result<'a> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = text.matches(old).take(most).count();
    // Known before it is made: the reference's cost says nothing of what is put in.
    let size = text
        .len()
        .saturating_sub(found.saturating_mul(old.len()))
        .saturating_add(found.saturating_mul(new.len()));
    context.allocate(size)?;
    context.work(size.saturating_mul(100))?;
    Ok(Value::made(text.replacen(old, new, most)))
}

/// Go's `strings.SplitN`: an empty separator separates code points.
fn split<'a>(context: &mut Context<'_>, text: &str, separator: &str, most: i64) -> Result<'a> {
    let most = match most {
        0 => return Ok(Value::list(Vec::new())),
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let mut parts = Vec::new();
    let mut take = |context: &mut Context<'_>, part: &str| {
        context.allocate(part.len())?;
        context.allocate_list(1)?;
        parts.push(Value::made(part));
        Ok::<(), EvalError>(())
    };
    if separator.is_empty() {
        let mut rest = text;
        let mut count = 0;
        while let Some(c) = rest.chars().next() {
            count += 1;
            if count == most {
                take(context, rest)?;
                break;
            }
            let (head, tail) = rest.split_at(c.len_utf8());
            take(context, head)?;
            rest = tail;
        }
    } else {
        for part in text.splitn(most, separator) {
            take(context, part)?;
        }
    }
    Ok(Value::list(parts))
}

fn join<'a>(context: &mut Context<'_>, list: &List<'a>, separator: &str) -> Result<'a> {
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        let Value::String(text) = element? else {
            return Err(EvalError::new("join: invalid input: not a string"));
        };
        if index > 0 {
            context.allocate(separator.len())?;
            joined.push_str(separator);
        }
        context.allocate(text.len())?;
        context.work(
            text.len()
                .saturating_add(separator.len())
                .saturating_mul(10)
                .saturating_add(100),
        )?;
        joined.push_str(&text);
    }
    Ok(Value::made(joined))
}

fn quote<'a>(context: &mut Context<'_>, text: &str) -> Result<'a> {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    made(context, quoted)
}
