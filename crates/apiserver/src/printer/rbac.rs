//! Roles and bindings.

use serde_json::{Value, json};

use super::{Printer, created_ago, items, name, text};

/// Columns of Roles and ClusterRoles.
#[must_use]
pub(crate) fn role() -> Printer {
    Printer::new(
        &[("Name", "string", 0), ("Created At", "date", 0)],
        |role, _| vec![name(role), json!(text(role, "/metadata/creationTimestamp"))],
    )
}

/// Columns of RoleBindings and ClusterRoleBindings.
#[must_use]
pub(crate) fn binding() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Role", "string", 0),
            ("Age", "string", 0),
            ("Users", "string", 1),
            ("Groups", "string", 1),
            ("ServiceAccounts", "string", 1),
        ],
        |binding, now| {
            let role = format!(
                "{}/{}",
                text(binding, "/roleRef/kind"),
                text(binding, "/roleRef/name")
            );
            vec![
                name(binding),
                json!(role),
                created_ago(binding, now),
                json!(subjects(binding, "User")),
                json!(subjects(binding, "Group")),
                json!(subjects(binding, "ServiceAccount")),
            ]
        },
    )
}

fn subjects(binding: &Value, kind: &str) -> String {
    items(binding, "/subjects")
        .iter()
        .filter(|s| s["kind"] == kind)
        .map(|s| match (kind, text(s, "/namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", text(s, "/name")),
            (_, _) => text(s, "/name").to_owned(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}
