//! Keeps the rules of aggregated ClusterRoles what their selectors choose (stock: the
//! clusterrole-aggregation controller). Decisions don't need it, readers of the roles do.
//!
//! One task, [`run`]; it ends with the storage that it follows.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::json;

use berth_rules::rbac::policy::{aggregated, effective_rules};
use berth_store::Expect;

use super::CLUSTER_ROLES;
use crate::storage::Storage;

/// Follows all ClusterRoles and rewrites the aggregated ones whose rules are no longer right.
pub async fn run(storage: Arc<Storage>) {
    let mut applied = storage.subscribe();
    let mut seen = None;
    loop {
        let changed = storage.changed_at(CLUSTER_ROLES);
        if seen != Some(changed) {
            seen = Some(changed);
            refresh(&storage).await;
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

async fn refresh(storage: &Storage) {
    // One that cannot be decoded gives its rules to nobody; it was logged.
    let all: Vec<ClusterRole> = storage.readable(CLUSTER_ROLES, None);
    for role in stale(&all) {
        let name = role.metadata.name.clone().unwrap_or_default();
        let Some(stored) = storage.get(CLUSTER_ROLES, "", &name) else {
            continue;
        };
        let Ok(mut object) = stored.value() else {
            continue;
        };
        object["rules"] = json!(role.rules);
        // a role that changed meanwhile comes by again
        if let Err(error) = storage
            .put(
                CLUSTER_ROLES,
                "",
                &name,
                Expect::Revision(stored.revision),
                object,
            )
            .await
        {
            tracing::warn!(%error, role = name, "the rules of an aggregated role could not be written");
        }
    }
}

/// The aggregated roles with other rules than they should have, with the right ones.
fn stale(all: &[ClusterRole]) -> Vec<ClusterRole> {
    let aggregated = all.iter().filter(|role| aggregated(role).is_some());
    aggregated
        .filter_map(|role| {
            let rules = effective_rules(role, all);
            (role.rules.as_deref().unwrap_or_default() != rules).then(|| ClusterRole {
                rules: Some(rules),
                ..role.clone()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn role(value: Value) -> ClusterRole {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_aggregated_role_follows_the_roles_that_it_selects() {
        let whole = role(
            json!({"metadata": {"name": "whole"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}, "rules": []}),
        );
        let part = role(
            json!({"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        );
        let other = role(json!({"metadata": {"name": "other"}, "rules": []}));
        let fresh = stale(&[whole, part.clone(), other]);
        assert_eq!(fresh.len(), 1);
        assert_eq!(fresh[0].rules, part.rules);
        assert_eq!(stale(&[fresh[0].clone(), part]), []);
    }
}
