//! networking.k8s.io/v1 IPAddress.

use k8s_openapi::api::networking::v1::IPAddress;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, name, or_none, text};
use crate::registry::{Scope, Subresource};

impl Kind for IPAddress {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["ip"];
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
            &[("Name", "string", 0), ("ParentRef", "string", 0)],
            |object, _| vec![name(object), or_none(&parent(object))],
        )
    }
}

fn parent(address: &Value) -> String {
    let parts = ["resource", "group", "namespace", "name"];
    let parts = parts.map(|field| text(address, &format!("/spec/parentRef/{field}")));
    let [resource, group, namespace, object] = parts;
    let resource = match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    };
    match namespace {
        "" => format!("{resource}/{object}"),
        namespace => format!("{resource}/{namespace}/{object}"),
    }
}
