//! core/v1 Endpoints.

use k8s_openapi::api::core::v1::Endpoints;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for Endpoints {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["ep"];
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
}
