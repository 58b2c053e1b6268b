//! Fields that selectors may name.

use std::borrow::Cow;

use serde_json::Value;

/// A field label, its place in the object and its value when absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLabel {
    /// As selectors name it, e.g. `spec.nodeName`.
    pub label: Cow<'static, str>,
    /// JSON pointer into the object in its storage version.
    pub pointer: Cow<'static, str>,
    /// Value when absent.
    pub absent: Cow<'static, str>,
    /// JSON pointer to what counts in the place of an absent or empty value; empty where nothing does.
    pub instead: &'static str,
}

impl FieldLabel {
    /// A label whose value is empty when absent.
    pub(crate) const fn new(label: &'static str, pointer: &'static str) -> Self {
        Self::or(label, pointer, "")
    }

    /// A label with another value when absent.
    pub(crate) const fn or(
        label: &'static str,
        pointer: &'static str,
        absent: &'static str,
    ) -> Self {
        Self {
            label: Cow::Borrowed(label),
            pointer: Cow::Borrowed(pointer),
            absent: Cow::Borrowed(absent),
            instead: "",
        }
    }

    /// A label whose value is at another place when it is absent or empty.
    pub(crate) const fn or_at(
        label: &'static str,
        pointer: &'static str,
        instead: &'static str,
    ) -> Self {
        Self {
            label: Cow::Borrowed(label),
            pointer: Cow::Borrowed(pointer),
            absent: Cow::Borrowed(""),
            instead,
        }
    }

    /// The value that selectors compare with.
    pub(crate) fn value(&self, object: &Value) -> Box<str> {
        match object.pointer(&self.pointer) {
            None | Some(Value::Null) if self.instead.is_empty() => (*self.absent).into(),
            Some(Value::String(s)) if !s.is_empty() || self.instead.is_empty() => s.as_str().into(),
            None | Some(Value::Null | Value::String(_)) => object
                .pointer(self.instead)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into(),
            Some(other) => other.to_string().into(),
        }
    }
}
