//! core/v1 Endpoints.

use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, or_none, text};
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
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Endpoints", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    or_none(&addresses(object)),
                    created_ago(object, now),
                ]
            },
        )
    }
}

/// The first three addresses with their ports, and how many more there are.
fn addresses(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(endpoints, "/subsets") {
        let ports = items(subset, "/ports");
        for address in items(subset, "/addresses") {
            let ip = text(address, "/ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            let port = |port: &Value| port["port"].as_i64().unwrap_or(0);
            all.extend(ports.iter().map(|p| match ip.contains(':') {
                true => format!("[{ip}]:{}", port(p)),
                false => format!("{ip}:{}", port(p)),
            }));
        }
    }
    let first = all
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<String>>()
        .join(",");
    match all.len().saturating_sub(3) {
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}
