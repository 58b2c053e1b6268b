//! core/v1 ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, size};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for ConfigMap {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["cm"];
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
            &[
                ("Name", "string", 0),
                ("Data", "string", 0),
                ("Age", "string", 0),
            ],
            |map, now| {
                vec![
                    name(map),
                    json!(size(map, "data") + size(map, "binaryData")),
                    created_ago(map, now),
                ]
            },
        )
    }
}
