//! core/v1 Service.

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, or_none, text};
use crate::registry::{Scope, Subresource};

impl Kind for Service {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[
        FieldLabel::new("spec.clusterIP", "/spec/clusterIP"),
        FieldLabel::new("spec.type", "/spec/type"),
    ];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
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
                ("Type", "string", 0),
                ("Cluster-IP", "string", 0),
                ("External-IP", "string", 0),
                ("Port(s)", "string", 0),
                ("Age", "string", 0),
                ("Selector", "string", 1),
            ],
            |service, now| {
                let ports: Vec<String> = items(service, "/spec/ports")
                    .iter()
                    .map(|p| {
                        let node = p["nodePort"]
                            .as_i64()
                            .map(|n| format!(":{n}"))
                            .unwrap_or_default();
                        format!(
                            "{}{node}/{}",
                            p["port"],
                            p["protocol"].as_str().unwrap_or("TCP")
                        )
                    })
                    .collect();
                let selector: Vec<String> = service["spec"]["selector"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
                    .collect();
                vec![
                    name(service),
                    service["spec"]["type"].clone(),
                    or_none(text(service, "/spec/clusterIP")),
                    or_none(&external(service)),
                    or_none(&ports.join(",")),
                    created_ago(service, now),
                    or_none(&selector.join(",")),
                ]
            },
        )
    }
}

/// Where clients outside the cluster reach it.
fn external(service: &Value) -> String {
    let own = items(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str);
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let points = items(service, "/status/loadBalancer/ingress").iter();
            let points = points.map(|point| match text(point, "/ip") {
                "" => text(point, "/hostname"),
                ip => ip,
            });
            match points.chain(own).collect::<Vec<&str>>().join(",") {
                none if none.is_empty() => "<pending>".to_owned(),
                some => some,
            }
        }
        _ => own.collect::<Vec<&str>>().join(","),
    }
}
