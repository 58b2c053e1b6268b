//! The addresses of the node's pods, where the cluster gives nodes theirs: the runtime has to know them.

use std::time::Duration;

use berth_cri_api::v1::{NetworkConfig, RuntimeConfig, UpdateRuntimeConfigRequest};
use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;
use tracing::info;

use crate::agent::Agent;

/// So long after its registration the Node is asked for anew, until the cluster has given it addresses; later they are seen
/// when its status is written. Most clusters give none.
const AWAITED: Duration = Duration::from_secs(120);

/// What the runtime was told.
#[derive(Debug)]
pub(super) struct Cidrs {
    told: Option<String>,
    since: Instant,
}

impl Default for Cidrs {
    fn default() -> Self {
        Self {
            told: None,
            since: Instant::now(),
        }
    }
}

/// The addresses that the Node has, in the form in which runtimes take them.
fn given(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let many = spec.pod_cidrs.as_ref().filter(|all| !all.is_empty());
    let all = many.map(|all| all.join(","));
    all.or_else(|| spec.pod_cidr.clone())
        .filter(|text| !text.is_empty())
}

impl Cidrs {
    /// Whether the Node may be given addresses soon.
    pub(super) fn are_awaited(&self, node: Option<&Node>) -> bool {
        self.since.elapsed() < AWAITED && node.is_some_and(|node| given(node).is_none())
    }

    /// Tells the runtime, when there is something new.
    ///
    /// # Errors
    /// What it answers.
    pub(super) async fn tell(&mut self, agent: &Agent, node: &Node) -> Result<(), tonic::Status> {
        let Some(cidrs) = given(node) else {
            return Ok(());
        };
        if self.told.as_ref() == Some(&cidrs) {
            return Ok(());
        }
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig {
                network_config: Some(NetworkConfig {
                    pod_cidr: cidrs.clone(),
                }),
            }),
        };
        agent.cri.runtime().update_runtime_config(request).await?;
        info!(cidrs, "told the runtime the addresses of this node's pods");
        self.told = Some(cidrs);
        Ok(())
    }

    /// The runtime may be another one now.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_node_may_have_one_range_or_one_of_each_family() {
        let of = |spec: Value| given(&from_value(json!({"metadata": {}, "spec": spec})).unwrap());
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"podCIDR": ""})), None);
        let one = json!({"podCIDR": "10.0.0.0/24"});
        assert_eq!(of(one).as_deref(), Some("10.0.0.0/24"));
        let both = json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]});
        assert_eq!(of(both).as_deref(), Some("10.0.0.0/24,fd00::/64"));
    }
}
