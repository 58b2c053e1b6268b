//! core/v1 ComponentStatus: listed for clients that still ask for it. No component is probed, so there is none.

use k8s_openapi::api::core::v1::ComponentStatus;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, items, name, text};
use crate::registry::{ResourceHandler, Scope, Subresource};

impl Kind for ComponentStatus {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["cs"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn handler() -> ResourceHandler {
        ResourceHandler::ReadOnly
    }

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Status", "string", 0),
                ("Message", "string", 0),
                ("Error", "string", 0),
            ],
            |object, _| {
                let conditions = items(object, "/conditions");
                let healthy = conditions.iter().find(|c| c["type"] == "Healthy");
                let part = |field: &str| healthy.map_or("", |c| text(c, field));
                let status = match part("/status") {
                    "True" => "Healthy",
                    "False" => "Unhealthy",
                    _ => "Unknown",
                };
                vec![
                    name(object),
                    status.into(),
                    part("/message").into(),
                    part("/error").into(),
                ]
            },
        )
    }
}
