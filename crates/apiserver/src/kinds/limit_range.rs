//! core/v1 LimitRange.

use k8s_openapi::api::core::v1::LimitRange;
use serde_json::json;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, name, text};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for LimitRange {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
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
        Printer::new(
            &[("Name", "string", 0), ("Created At", "date", 0)],
            |range, _| {
                vec![
                    name(range),
                    json!(text(range, "/metadata/creationTimestamp")),
                ]
            },
        )
    }
}
