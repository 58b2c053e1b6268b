//! What enforces NetworkPolicies on a node: in stock clusters a network plugin, which brings its own role.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};

use super::data::{READ, on};
use super::{metadata, role_ref, subject};

/// The role, its binding, and the user.
const NAME: &str = "system:network-policy";

pub(super) fn cluster_role() -> ClusterRole {
    let lines = [
        on(READ, "core", "pods namespaces"),
        on(READ, "networking.k8s.io", "networkpolicies"),
        on(READ, "node.k8s.io", "runtimeclasses"),
    ];
    ClusterRole {
        metadata: metadata(NAME, None),
        aggregation_rule: None,
        rules: Some(lines.iter().map(super::Line::rule).collect()),
    }
}

pub(super) fn cluster_role_binding() -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(NAME, None),
        role_ref: role_ref("ClusterRole", NAME),
        subjects: Some(vec![subject(&format!("User:{NAME}"))]),
    }
}
