//! flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration.

use berth_api::status::ApiError;
use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{NONE, Printer, created_ago, name};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for PriorityLevelConfiguration {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
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
                ("Type", "string", 0),
                ("NominalConcurrencyShares", "string", 0),
                ("Queues", "string", 0),
                ("HandSize", "string", 0),
                ("QueueLengthLimit", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["spec"]["type"].clone(),
                    shown(object, "/spec/limited/nominalConcurrencyShares"),
                    shown(object, "/spec/limited/limitResponse/queuing/queues"),
                    shown(object, "/spec/limited/limitResponse/queuing/handSize"),
                    shown(
                        object,
                        "/spec/limited/limitResponse/queuing/queueLengthLimit",
                    ),
                    created_ago(object, now),
                ]
            },
        )
    }

    fn warnings(_new: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(vec!["PriorityLevelConfiguration is not honoured by this server: its own priority levels apply".to_owned()])
    }
}

fn shown(level: &Value, pointer: &str) -> Value {
    level
        .pointer(pointer)
        .cloned()
        .unwrap_or_else(|| json!(NONE))
}
