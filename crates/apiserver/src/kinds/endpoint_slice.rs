//! discovery.k8s.io/v1 EndpointSlice.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{NONE, Printer, created_ago, items, name};
use crate::registry::{Scope, Subresource};

impl Kind for EndpointSlice {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| {
        new.endpoints != old.endpoints
            || new.ports != old.ports
            || new.metadata.labels != old.metadata.labels
    });
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
                ("AddressType", "string", 0),
                ("Ports", "string", 0),
                ("Endpoints", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["addressType"].clone(),
                    json!(first_three(items(object, "/ports"), port)),
                    json!(endpoints(object)),
                    created_ago(object, now),
                ]
            },
        )
    }
}

const UNSET: &str = "<unset>";

fn port(port: &Value) -> String {
    port["port"]
        .as_i64()
        .map_or_else(|| "*".to_owned(), |number| number.to_string())
}

/// The first three, and how many more there are.
fn first_three(list: &[Value], shown: impl Fn(&Value) -> String) -> String {
    if list.is_empty() {
        return UNSET.to_owned();
    }
    let first: Vec<String> = list.iter().take(3).map(shown).collect();
    match list.len().saturating_sub(3) {
        0 => first.join(","),
        more => format!("{} + {more} more...", first.join(",")),
    }
}

fn endpoints(slice: &Value) -> String {
    let endpoints = items(slice, "/endpoints").iter();
    let addresses: Vec<Value> = endpoints
        .flat_map(|e| items(e, "/addresses").iter().cloned())
        .collect();
    first_three(&addresses, |address| {
        address.as_str().unwrap_or(NONE).to_owned()
    })
}
