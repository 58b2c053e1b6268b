//! flowcontrol.apiserver.k8s.io/v1 FlowSchema.

use berth_api::status::ApiError;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, number, or_none, text};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for FlowSchema {
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
                ("PriorityLevel", "string", 0),
                ("MatchingPrecedence", "string", 0),
                ("DistinguisherMethod", "string", 0),
                ("Age", "string", 0),
                ("MissingPL", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["spec"]["priorityLevelConfiguration"]["name"].clone(),
                    number(object, "/spec/matchingPrecedence"),
                    or_none(text(object, "/spec/distinguisherMethod/type")),
                    created_ago(object, now),
                    json!(dangling(object)),
                ]
            },
        )
    }

    fn warnings(_new: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(vec![
            "FlowSchema is not honoured by this server: its own priority levels apply".to_owned(),
        ])
    }
}

/// Whether the schema names a level that isn't there, as its status says.
fn dangling(schema: &Value) -> &str {
    let mut conditions = items(schema, "/status/conditions").iter();
    let dangling = conditions.find(|c| c["type"] == "Dangling");
    dangling.map_or("?", |condition| text(condition, "/status"))
}
