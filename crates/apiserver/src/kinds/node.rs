//! core/v1 Node.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{Deletion, Kind, MovedOn, PROXY, Updates};
use crate::printer::{NONE, Printer, created_ago, items, name, or_none, text};
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};
use crate::strategy::FieldLabel;

impl Kind for Node {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[FieldLabel::or(
        "spec.unschedulable",
        "/spec/unschedulable",
        "false",
    )];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![
            Subresource::new(
                "proxy",
                Gvk::new("", "v1", "NodeProxyOptions"),
                PROXY,
                SubresourceHandler::Connect,
            ),
            Subresource::status::<Self>(),
        ]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Status", "string", 0),
                ("Roles", "string", 0),
                ("Age", "string", 0),
                ("Version", "string", 0),
                ("Internal-IP", "string", 1),
                ("External-IP", "string", 1),
                ("OS-Image", "string", 1),
                ("Kernel-Version", "string", 1),
                ("Container-Runtime", "string", 1),
            ],
            |node, now| {
                let info = |field: &str| text(node, &format!("/status/nodeInfo/{field}"));
                let unknown =
                    |text: &str| Value::from(if text.is_empty() { "<unknown>" } else { text });
                vec![
                    name(node),
                    json!(node_status(node)),
                    json!(roles(node)),
                    created_ago(node, now),
                    json!(info("kubeletVersion")),
                    or_none(address(node, "InternalIP")),
                    or_none(address(node, "ExternalIP")),
                    unknown(info("osImage")),
                    unknown(info("kernelVersion")),
                    unknown(info("containerRuntimeVersion")),
                ]
            },
        )
    }
}

fn node_status(node: &Value) -> String {
    let ready = items(node, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut status = match ready {
        Some(c) if c["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = node["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some("") => None,
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
                None => None,
            },
        )
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        return NONE.to_owned();
    }
    roles.join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    items(node, "/status/addresses")
        .iter()
        .find(|a| a["type"] == kind)
        .map_or("", |a| text(a, "/address"))
}
