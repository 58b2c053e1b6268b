//! Fields that selectors may name.

/// A field label, its place in the object and its value when absent.
#[derive(Clone, Copy, Debug)]
pub struct FieldLabel {
    /// As selectors name it, e.g. `spec.nodeName`.
    pub label: &'static str,
    /// JSON pointer into the object in its storage version.
    pub pointer: &'static str,
    /// Value when absent.
    pub absent: &'static str,
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
            label,
            pointer,
            absent,
        }
    }
}
