//! Why a pod does not get the handler that it asks for.

use super::document::Origin;

/// A handler that a pod asked for and can't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandlerRefused {
    /// No configuration names it.
    #[error("no runtime handler {name:?} is configured; known handlers: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// It is configured and can't run.
    #[error("runtime handler {name:?} ({origin}) cannot run: {reason}")]
    Broken {
        /// What was asked for.
        name: String,
        /// Where it is configured.
        origin: Origin,
        /// Why it can't run.
        reason: String,
    },
}
