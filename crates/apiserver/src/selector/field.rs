//! Field selectors: `metadata.name=x,spec.nodeName!=y`.

use berth_api::status::ApiError;

use crate::storage::Stored;
use crate::strategy::FieldLabel;

/// One requirement.
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

impl Requirement {
    /// Whether an object satisfies it.
    pub(crate) fn matches(&self, object: &Stored) -> bool {
        let value: &str = match self.field {
            Field::Name => &object.name,
            Field::Namespace => &object.namespace,
            Field::Label(at) => object.fields.get(at).map_or("", |v| v),
        };
        (value == self.value) == self.equal
    }
}

/// Reads a selector over the labels that a kind has.
///
/// # Errors
/// `BadRequest` for a malformed one or a label that the kind does not have.
pub(crate) fn parse(text: &str, labels: &[FieldLabel]) -> Result<Vec<Requirement>, ApiError> {
    let mut requirements = Vec::new();
    for term in split(text) {
        if term.is_empty() {
            continue;
        }
        let (key, value, equal) = if let Some((key, value)) = term.split_once("!=") {
            (key, value, false)
        } else if let Some((key, value)) = term.split_once("==") {
            (key, value, true)
        } else if let Some((key, value)) = term.split_once('=') {
            (key, value, true)
        } else {
            return Err(ApiError::BadRequest(format!(
                "invalid selector: '{text}'; can't understand '{term}'"
            )));
        };
        let field = match key {
            "metadata.name" => Field::Name,
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
            value: unescape(value),
            equal,
        });
    }
    Ok(requirements)
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
            continue;
        }
        if let Some(term) = terms.last_mut() {
            term.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
