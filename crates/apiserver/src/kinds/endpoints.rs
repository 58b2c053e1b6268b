//! core/v1 Endpoints.

use k8s_openapi::api::core::v1::Endpoints;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{Scope, Subresource};

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
