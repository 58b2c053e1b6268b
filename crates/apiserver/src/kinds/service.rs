//! core/v1 Service.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use super::controllers;
use crate::allocation;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, items, name, or_none, text};
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};
use crate::storage::Beside;
use crate::strategy::Cluster;

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
    const SHOWS_DELETED: bool = true;
    const ALLOCATES: bool = true;

    fn subresources() -> Vec<Subresource> {
        vec![
            Subresource::status::<Self>(),
            Subresource::new(
                "proxy",
                Gvk::new("", "v1", "ServiceProxyOptions"),
                super::PROXY,
                SubresourceHandler::Connect,
            ),
        ]
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let spec = new.spec.as_ref();
        let headless = spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None");
        let selects = spec.is_some_and(|s| s.selector.as_ref().is_some_and(|s| !s.is_empty()));
        let name_only = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
        if name_only
            || (headless && !selects)
            || cluster.controllers
            || controllers::is_manager_running(cluster)?
        {
            return Ok(Vec::new());
        }
        Ok(vec![
            "no controller for endpoints is built into this server: nothing answers at the address of a Service until a \
             kube-controller-manager runs"
                .to_owned(),
        ])
    }

    fn allocate(
        new: Option<&mut Self>,
        old: Option<&Self>,
        cluster: Cluster<'_>,
    ) -> Result<Vec<Beside>, ApiError> {
        allocation::allocate(new, old, cluster)
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
