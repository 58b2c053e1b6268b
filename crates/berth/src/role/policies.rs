//! NetworkPolicies on a node: whether they are enforced there, as whom they are read, and on which bridge.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use berth_net::policy::{PolicyConfig, PolicyHandle, prepare, remove_remembered};
use tracing::{info, warn};

use super::{Roles, Stage};
use crate::kubeconfig;

/// Flags of what enforces NetworkPolicies on a node.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PolicyArgs {
    /// Enforce NetworkPolicies, and what RuntimeClasses deny their pods, by nftables at the pods' ports of a bridge; pods that are on
    /// none don't start then. Without it NetworkPolicies are left to the network plugin, and pods of a class that denies something
    /// don't start [default: true with --network-policy-kubeconfig, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) network_policy: Option<bool>,
    /// As whom the cluster's NetworkPolicies, pods, namespaces and RuntimeClasses are read, which a node itself may not: this
    /// kubeconfig (`berth kubeconfig --user system:network-policy` makes one; examples/network-policy-role.yaml has the rights)
    #[arg(long, value_name = "FILE")]
    pub(crate) network_policy_kubeconfig: Option<PathBuf>,
    /// Name of the bridge that pods are on [default: that of the network which the CRI runtime reports]
    #[arg(long, value_name = "NAME", requires = "network_policy_kubeconfig")]
    pub(crate) network_policy_bridge: Option<String>,
}

/// What is known of the node besides.
pub(crate) struct OfNode<'a> {
    pub(crate) name: String,
    /// Addresses of the DNS server that this process runs.
    pub(crate) dns: Vec<std::net::IpAddr>,
    pub(crate) runtime_classes: bool,
    /// The agent's own directory.
    pub(crate) root_dir: &'a Path,
}

impl PolicyArgs {
    /// The kubeconfig by which they are enforced; nothing when they aren't.
    ///
    /// # Errors
    /// When they have to be, and nothing says as whom.
    fn kubeconfig(&self) -> anyhow::Result<Option<&Path>> {
        let kubeconfig = self.network_policy_kubeconfig.as_deref();
        ensure!(
            self.network_policy != Some(true) || kubeconfig.is_some(),
            "--network-policy needs --network-policy-kubeconfig: the credentials of a node do not let it read the cluster's NetworkPolicies and pods. \
             `berth kubeconfig --user system:network-policy` makes one"
        );
        Ok(kubeconfig.filter(|_| self.network_policy != Some(false)))
    }

    /// Starts what enforces them; nothing when they are left to somebody else.
    ///
    /// # Errors
    /// When the flags make no sense, or the kubeconfig can't be read.
    pub(crate) async fn start(
        &self,
        roles: &mut Roles,
        node: OfNode<'_>,
    ) -> anyhow::Result<Option<PolicyHandle>> {
        let bridges = node.root_dir.join("network-policy-bridges");
        let Some(path) = self.kubeconfig()? else {
            info!(
                "NetworkPolicies are left to the network plugin, and pods of a RuntimeClass that denies them something do not start here"
            );
            if let Err(error) = remove_remembered(&bridges).await {
                warn!(%error, "the rules of NetworkPolicies, which are not enforced any more, cannot be removed");
            }
            return Ok(None);
        };
        let (handle, enforcer) = prepare(PolicyConfig {
            client: kubeconfig::load(path).await?.client,
            bridge: self.network_policy_bridge.clone(),
            pod_cidrs: Vec::new(),
            marks_ports: true,
            bridges: Some(bridges),
            node: node.name,
            dns: node.dns,
            runtime_classes: node.runtime_classes,
            remembered: node.root_dir.join("network-policy.json"),
        })?;
        roles.spawn(Stage::Clients, "network policies", |token| async move {
            enforcer.run(token).await;
            Ok(())
        });
        Ok(Some(handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        policies: PolicyArgs,
    }

    fn args(given: &[&str]) -> PolicyArgs {
        let all = ["node"].iter().chain(given);
        <Cli as clap::Parser>::parse_from(all).policies
    }

    #[test]
    fn who_reads_them_is_said_or_they_are_left_to_others() {
        let file = "--network-policy-kubeconfig=k";
        let path = Some(Path::new("k"));
        for (given, want) in [
            (&[][..], None),
            (&["--network-policy=false"][..], None),
            (&[file][..], path),
            (&["--network-policy", file][..], path),
            (&["--network-policy=true", file][..], path),
            (&["--network-policy=false", file][..], None),
        ] {
            assert_eq!(args(given).kubeconfig().unwrap(), want, "{given:?}");
        }
        let refused = args(&["--network-policy"]).kubeconfig().unwrap_err();
        assert!(refused.to_string().contains("--user system:network-policy"));
    }
}
