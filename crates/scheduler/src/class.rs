//! What matters of a RuntimeClass for the choice of nodes.

use berth_core::isolation::{Isolation, declared_level};
use k8s_openapi::api::node::v1::RuntimeClass;

/// The handler of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassHandler {
    /// Its name.
    pub(crate) handler: String,
    /// How far the class says that it keeps pods apart; the weakest where that can't be read.
    pub(crate) declared: Option<Isolation>,
}

impl ClassHandler {
    /// Of a class.
    pub(crate) fn of(class: RuntimeClass) -> Self {
        Self {
            declared: declared_level(&class.metadata),
            handler: class.handler,
        }
    }
}
