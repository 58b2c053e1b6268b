//! Field selectors: `metadata.name=x,spec.nodeName!=y`.

use berth_api::status::ApiError;

use super::{MAX_REQUIREMENTS, Selectable, too_many_requirements};
use crate::field_label::FieldLabel;

/// The field that can limit a request to one object.
const NAME: &str = "metadata.name";
/// Operators, in the order in which they are looked for at each place.
const OPERATORS: [(&str, bool); 3] = [("!=", false), ("==", true), ("=", true)];

/// One requirement as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    key: String,
    value: String,
    equal: bool,
}

/// One requirement on objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    /// Index in the kind's labels.
    Label(usize),
}

impl Term {
    /// The field that it is about.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl Requirement {
    /// Whether it is about a field that not every kind has.
    pub(crate) fn is_of_the_kind(&self) -> bool {
        matches!(self.field, Field::Label(_))
    }

    /// Whether an object satisfies it.
    pub(crate) fn matches(&self, object: &impl Selectable) -> bool {
        let value = match self.field {
            Field::Name => object.name(),
            Field::Namespace => object.namespace(),
            Field::Label(at) => object.field(at),
        };
        (value == self.value) == self.equal
    }
}

/// Reads a selector.
///
/// # Errors
/// `BadRequest` for a malformed one.
pub(crate) fn parse(text: &str) -> Result<Vec<Term>, ApiError> {
    let refused = |why: String| ApiError::BadRequest(format!("invalid selector: '{text}'; {why}"));
    let mut terms = Vec::new();
    for term in split(text) {
        if term.is_empty() {
            continue;
        }
        if terms.len() == MAX_REQUIREMENTS {
            return Err(too_many_requirements());
        }
        let (key, value, equal) =
            split_term(term).ok_or_else(|| refused(format!("can't understand '{term}'")))?;
        terms.push(Term {
            key: key.to_owned(),
            value: unescape(value).map_err(refused)?,
            equal,
        });
    }
    Ok(terms)
}

/// The value that a field of all selected objects must have.
pub(crate) fn required<'a>(terms: &'a [Term], field: &str) -> Option<&'a str> {
    let mut wanted = terms.iter().filter(|term| term.equal && term.key == field);
    wanted.next().map(|term| term.value.as_str())
}

/// The name that all selected objects must have, when it is one that a path could name.
pub(crate) fn required_name(terms: &[Term]) -> Option<&str> {
    let name = required(terms, NAME)?;
    let segment = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '%']);
    segment.then_some(name)
}

/// Binds terms to the labels that a kind has.
///
/// # Errors
/// `BadRequest` for a label that the kind does not have.
pub(crate) fn bind(terms: &[Term], labels: &[FieldLabel]) -> Result<Vec<Requirement>, ApiError> {
    let mut requirements = Vec::with_capacity(terms.len());
    for term in terms {
        let field = match term.key.as_str() {
            NAME => Field::Name,
            "metadata.namespace" => Field::Namespace,
            other => labels
                .iter()
                .position(|l| l.label == other)
                .map(Field::Label)
                .ok_or_else(|| {
                    ApiError::BadRequest(format!("field label not supported: {other}"))
                })?,
        };
        requirements.push(Requirement {
            field,
            value: term.value.clone(),
            equal: term.equal,
        });
    }
    Ok(requirements)
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    terms.push(&text[start..]);
    terms
}

/// A term at its first operator.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    term.char_indices().find_map(|(at, _)| {
        let (key, rest) = term.split_at(at);
        OPERATORS
            .iter()
            .find_map(|(operator, equal)| Some((key, rest.strip_prefix(operator)?, *equal)))
    })
}

/// A value without its escapes, of which there are three.
fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return Err(format!("invalid escape sequence: \\{other}")),
                None => return Err("an escape at its end".to_owned()),
            },
            '=' => return Err(format!("unescaped character in value: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_required_only_where_the_whole_selector_requires_it() {
        for (text, name) in [
            ("metadata.name=a", Some("a")),
            ("metadata.name==a", Some("a")),
            ("spec.nodeName=n,metadata.name=a", Some("a")),
            ("metadata.name!=a", None),
            ("metadata.name=", None),
            ("metadata.name=a/b", None),
            ("metadata.name=..", None),
            ("metadata.namespace=a", None),
            // One value with a comma in it, not a second term.
            ("metadata.namespace=x\\,metadata.name\\=a", None),
            ("metadata.name!=x\\,metadata.name\\=a", None),
            ("metadata.name=a\\,b", Some("a,b")),
            ("", None),
        ] {
            assert_eq!(required_name(&parse(text).unwrap()), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "metadata.name",
            "metadata.name=a=b",
            "metadata.name=a\\",
            "metadata.name=a\\b",
            "metadata.namespace=x\\,metadata.name=a",
        ] {
            assert_eq!(parse(text).map_err(|e| e.code()), Err(400), "{text}");
        }
    }
}
