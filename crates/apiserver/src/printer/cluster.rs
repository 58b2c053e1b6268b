//! Nodes, PriorityClasses, leases, CustomResourceDefinitions.

use serde_json::{Value, json};

use super::{NONE, Printer, created_ago, items, name, or_none, text};

/// Columns of nodes.
#[must_use]
pub fn node() -> Printer {
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

/// Columns of PriorityClasses.
#[must_use]
pub fn priority_class() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Value", "integer", 0),
            ("Global-Default", "boolean", 0),
            ("Age", "string", 0),
            ("PreemptionPolicy", "string", 0),
        ],
        |class, now| {
            vec![
                name(class),
                class["value"].clone(),
                json!(class["globalDefault"] == true),
                created_ago(class, now),
                class["preemptionPolicy"].clone(),
            ]
        },
    )
}

/// Columns of leases.
#[must_use]
pub fn lease() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Holder", "string", 0),
            ("Age", "string", 0),
        ],
        |lease, now| {
            vec![
                name(lease),
                json!(text(lease, "/spec/holderIdentity")),
                created_ago(lease, now),
            ]
        },
    )
}

/// Columns of CustomResourceDefinitions.
#[must_use]
pub fn custom_resource_definition() -> Printer {
    Printer::new(
        &[("Name", "string", 0), ("Created At", "date", 0)],
        |crd, _| vec![name(crd), json!(text(crd, "/metadata/creationTimestamp"))],
    )
}
