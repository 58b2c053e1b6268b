//! networking.k8s.io/v1 IngressClass.

use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, or_none, text};
use crate::registry::{Scope, Subresource};

impl Kind for IngressClass {
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
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Controller", "string", 0),
                ("Parameters", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["spec"]["controller"].clone(),
                    or_none(&parameters(object)),
                    created_ago(object, now),
                ]
            },
        )
    }
}

fn parameters(class: &Value) -> String {
    let part = |field: &str| text(class, &format!("/spec/parameters/{field}"));
    let (kind, group, object) = (part("kind"), part("apiGroup"), part("name"));
    match (kind, group) {
        ("", _) => String::new(),
        (kind, "") => format!("{kind}/{object}"),
        (kind, group) => format!("{kind}.{group}/{object}"),
    }
}
