//! Paths of fields in definitions: `.spec.a`, `.labels['a.b']`, checked against the schema.

use serde_json::Value as Json;

/// The names of a path, in order.
///
/// # Errors
/// What is wrong with it, in the reference's words.
pub(crate) fn parse(path: &str, brackets: bool) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        match first {
            '.' => {
                let tail = &rest[1..];
                let end = tail.find(['.', '[', ']']).unwrap_or(tail.len());
                if tail.is_empty() {
                    return Err("unexpected end of JSON path".to_owned());
                }
                if end == 0 {
                    return Err("does not refer to a valid field".to_owned());
                }
                names.push(tail[..end].to_owned());
                rest = &tail[end..];
            }
            '[' if !brackets => return Err("array notation is not allowed".to_owned()),
            '[' => {
                let (name, tail) = quoted(&rest[1..])?;
                names.push(name);
                rest = match tail.chars().next() {
                    Some(']') => &tail[1..],
                    Some(other) => return Err(format!("expected ] but got {other}")),
                    None => return Err("unexpected end of JSON path".to_owned()),
                };
            }
            _ => {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len()).max(1);
                let shown: String = rest.chars().take(end).collect();
                return Err(format!("expected [ or . but got: {shown}"));
            }
        }
    }
    if names.is_empty() {
        Err("unexpected end of JSON path".to_owned())
    } else {
        Ok(names)
    }
}

/// A string in single quotes, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let Some(inside) = text.strip_prefix('\'') else {
        let end = text.find(['.', '[', ']']).unwrap_or(text.len());
        return Err(format!(
            "expected single quoted string but got {}",
            text.get(..end).unwrap_or_default()
        ));
    };
    let mut name = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\'' => return Ok((name, &inside[at + 1..])),
            '\\' => match characters.next().map(|(_, c)| c) {
                Some('a') => name.push('\u{7}'),
                Some('b') => name.push('\u{8}'),
                Some('f') => name.push('\u{c}'),
                Some('n') => name.push('\n'),
                Some('r') => name.push('\r'),
                Some('t') => name.push('\t'),
                Some('v') => name.push('\u{b}'),
                Some(c @ ('\'' | '\\')) => name.push(c),
                Some(c) => {
                    return Err(format!("invalid string literal: invalid escape char \\{c}"));
                }
                None => break,
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}

/// The part of a schema that a path leads to.
pub(crate) fn find<'s>(
    schema: &'s Json,
    path: &str,
    brackets: bool,
) -> Result<(Vec<String>, &'s Json), String> {
    let names = parse(path, brackets)?;
    let mut schema = schema;
    for name in &names {
        let invalid = || "does not refer to a valid field".to_owned();
        let properties = schema
            .get("properties")
            .and_then(Json::as_object)
            .filter(|map| !map.is_empty());
        schema = match properties {
            Some(properties) => properties.get(name).ok_or_else(invalid)?,
            None => schema
                .get("additionalProperties")
                .filter(|value| value.is_object())
                .ok_or_else(invalid)?,
        };
    }
    Ok((names, schema))
}

/// A path as errors show it, behind the place of the rule: `.spec['a']` is `.spec[a]`.
pub(crate) fn shown(path: &str, root: bool) -> String {
    let Ok(names) = parse(path, true) else {
        return path.to_owned();
    };
    let shown: String = names
        .iter()
        .map(|name| {
            if name.contains(['.', '/']) {
                format!("[{name}]")
            } else {
                format!(".{name}")
            }
        })
        .collect();
    if root {
        shown.trim_start_matches('.').to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::{find, parse};
    use serde_json::json;

    #[test]
    fn paths_are_checked_against_the_schema() {
        let schema = json!({"properties": {"spec": {"properties": {"a": {"type": "string"}, "m": {"additionalProperties": {"type": "integer"}}}}}});
        assert_eq!(find(&schema, ".spec.a", false).unwrap().1["type"], "string");
        assert_eq!(
            find(&schema, ".spec.m['x.y']", true).unwrap().1["type"],
            "integer"
        );
        for (path, error) in [
            (".spec.b", "does not refer to a valid field"),
            (".spec.a.b", "does not refer to a valid field"),
            ("spec", "expected [ or . but got: spec"),
            (".spec['a']", "array notation is not allowed"),
            (".", "unexpected end of JSON path"),
            ("", "unexpected end of JSON path"),
            (".spec..a", "does not refer to a valid field"),
        ] {
            assert_eq!(find(&schema, path, false).unwrap_err(), error, "{path}");
        }
        assert_eq!(parse(".a['it\\'s'].b", true).unwrap(), ["a", "it's", "b"]);
        assert!(parse(".a[0]", true).is_err());
        assert!(parse(".a['x", true).is_err());
    }
}
