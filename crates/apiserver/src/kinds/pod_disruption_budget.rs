//! policy/v1 PodDisruptionBudget. Evictions hold to it ([`crate::rest`]).

use berth_api::status::ApiError;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, number};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for PodDisruptionBudget {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["pdb"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Min Available", "string", 0),
                ("Max Unavailable", "string", 0),
                ("Allowed Disruptions", "integer", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    int_or_text(object, "/spec/minAvailable"),
                    int_or_text(object, "/spec/maxUnavailable"),
                    number(object, "/status/disruptionsAllowed"),
                    created_ago(object, now),
                ]
            },
        )
    }

    fn warnings(_new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        controllers::warnings::<Self>(cluster)
    }
}

fn int_or_text(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(Value::Number(number)) => json!(number.to_string()),
        Some(Value::String(text)) => json!(text),
        _ => json!("N/A"),
    }
}
