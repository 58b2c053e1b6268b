//! core/v1 Binding: created, never stored; the pod gets its node.

use k8s_openapi::api::core::v1::Binding;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{ResourceHandler, Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for Binding {
    type Object = Self;

    const PLURAL: &'static str = "bindings";
    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        printer::plain()
    }

    fn handler() -> ResourceHandler {
        ResourceHandler::Binding
    }
}
