//! networking.k8s.io/v1 Ingress.

use berth_api::status::ApiError;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, or_none, text};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for Ingress {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["ing"];
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
                ("Class", "string", 0),
                ("Hosts", "string", 0),
                ("Address", "string", 0),
                ("Ports", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    or_none(text(object, "/spec/ingressClassName")),
                    json!(hosts(object)),
                    json!(address(object)),
                    json!(if items(object, "/spec/tls").is_empty() {
                        "80"
                    } else {
                        "80, 443"
                    }),
                    created_ago(object, now),
                ]
            },
        )
    }

    fn warnings(_new: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(vec!["no ingress controller is built into this server: nothing serves this Ingress unless one is deployed for its \
             class".to_owned()])
    }
}

fn hosts(ingress: &Value) -> String {
    let rules = items(ingress, "/spec/rules").iter();
    let hosts: Vec<&str> = rules
        .map(|rule| text(rule, "/host"))
        .filter(|h| !h.is_empty())
        .collect();
    match hosts.as_slice() {
        [] => "*".to_owned(),
        few if few.len() <= 3 => few.join(","),
        [first, second, third, more @ ..] => {
            format!("{first},{second},{third} + {} more...", more.len())
        }
        few => few.join(","),
    }
}

fn address(ingress: &Value) -> String {
    let points = items(ingress, "/status/loadBalancer/ingress").iter();
    let shown = points.map(|point| match text(point, "/ip") {
        "" => text(point, "/hostname"),
        ip => ip,
    });
    shown.collect::<Vec<&str>>().join(",")
}
