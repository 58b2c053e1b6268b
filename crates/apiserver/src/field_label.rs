//! Fields that selectors may name.

use std::borrow::Cow;

/// A field label, its place in the object and its value when absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLabel {
    /// As selectors name it, e.g. `spec.nodeName`.
    pub label: Cow<'static, str>,
    /// JSON pointer into the object in its storage version.
    pub pointer: Cow<'static, str>,
    /// Value when absent.
    pub absent: Cow<'static, str>,
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
        }
    }
}
