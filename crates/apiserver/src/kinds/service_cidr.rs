//! networking.k8s.io/v1 ServiceCIDR.

use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, or_none};
use crate::registry::{Scope, Subresource};

impl Kind for ServiceCIDR {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("CIDRs", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    or_none(&cidrs(object)),
                    created_ago(object, now),
                ]
            },
        )
    }
}

fn cidrs(object: &Value) -> String {
    let cidrs = items(object, "/spec/cidrs")
        .iter()
        .filter_map(Value::as_str);
    cidrs.collect::<Vec<&str>>().join(",")
}
