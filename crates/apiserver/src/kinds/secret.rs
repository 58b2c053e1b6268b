//! core/v1 Secret.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, size};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for Secret {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[FieldLabel::new("type", "/type")];
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
                ("Type", "string", 0),
                ("Data", "string", 0),
                ("Age", "string", 0),
            ],
            |secret, now| {
                vec![
                    name(secret),
                    secret["type"].clone(),
                    json!(size(secret, "data")),
                    created_ago(secret, now),
                ]
            },
        )
    }
}
