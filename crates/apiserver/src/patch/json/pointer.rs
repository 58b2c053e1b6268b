//! JSON pointers (RFC 6901), with indexes that may count from the end.

use std::fmt;

use serde_json::Value;

use crate::patch::PatchError;

/// A place in a document: keys from the top down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer(Vec<String>);

impl Pointer {
    /// Parses one; empty is the whole document.
    ///
    /// # Errors
    /// [`PatchError::Unprocessable`] for one that does not begin with a slash.
    pub(super) fn parse(text: &str) -> Result<Self, PatchError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(keys) = text.strip_prefix('/') else {
            return Err(PatchError::unprocessable(format!(
                "the path {text:.200?} must begin with a slash"
            )));
        };
        let keys = keys.split('/');
        Ok(Self(
            keys.map(|key| key.replace("~1", "/").replace("~0", "~"))
                .collect(),
        ))
    }

    /// Whether it is the whole document.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many levels it is below the top.
    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }

    /// Whether the other is inside of this.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }

    /// The last key.
    pub(super) fn key(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// What is there.
    pub(super) fn find<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(document, |at, key| child(at, key))
    }

    /// What is there, to be changed.
    pub(super) fn find_mut<'v>(&self, document: &'v mut Value) -> Option<&'v mut Value> {
        self.0
            .iter()
            .try_fold(document, |at, key| child_mut(at, key))
    }

    /// What would hold it; none for the whole document.
    pub(super) fn parent<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        let (_, above) = self.0.split_last()?;
        above.iter().try_fold(document, |at, key| child(at, key))
    }

    /// What would hold it, to be changed, and its key there.
    pub(super) fn split_mut<'v>(&self, document: &'v mut Value) -> Option<(&'v mut Value, &str)> {
        let (key, above) = self.0.split_last()?;
        let parent = above
            .iter()
            .try_fold(document, |at, key| child_mut(at, key))?;
        Some((parent, key))
    }
}

impl fmt::Display for Pointer {
    /// A client chooses how long it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 500;
        let mut text = String::new();
        for key in &self.0 {
            text.push('/');
            text.push_str(&key.replace('~', "~0").replace('/', "~1"));
        }
        match text.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => write!(f, "{}...", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

/// The place in a list of so many; below zero it counts from the end.
pub(super) fn index(key: &str, length: usize) -> Option<usize> {
    let at: i64 = key.parse().ok()?;
    let at = match usize::try_from(at) {
        Ok(at) => at,
        Err(_) => length.checked_sub(usize::try_from(at.unsigned_abs()).ok()?)?,
    };
    (at < length).then_some(at)
}

fn child<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(index(key, items.len())?),
        _ => None,
    }
}

fn child_mut<'v>(value: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(map) => map.get_mut(key),
        Value::Array(items) => {
            let at = index(key, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    }
}
