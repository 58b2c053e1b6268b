//! scheduling.k8s.io/v1 PriorityClass.

use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::json;

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name};
use crate::registry::{Scope, Subresource};
use crate::strategy::FieldLabel;

impl Kind for PriorityClass {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["pc"];
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
                ("Value", "integer", 0),
                ("Global-Default", "boolean", 0),
                ("Age", "string", 0),
                ("PreemptionPolicy", "string", 0),
            ],
            |class, now| {
                vec![
                    name(class),
                    class["value"].clone(),
                    json!(class["globalDefault"] == true),
                    created_ago(class, now),
                    class["preemptionPolicy"].clone(),
                ]
            },
        )
    }
}
