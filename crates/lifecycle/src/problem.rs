//! Why something is not as it should be, for the status of a pod.

/// A reason and a message, as container states and pods carry them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase, for machines.
    pub reason: String,
    /// A sentence, for people.
    pub message: String,
}

impl Problem {
    /// Makes one.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}
