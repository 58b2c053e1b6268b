//! Flags by which the addresses of pods are shared out to nodes; all have the stock controller manager's names.

use anyhow::Context as _;
use berth_controllers::node_cidrs::{ClusterCidrs, NodeCidrs};
use ipnet::IpNet;

/// See the module.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NodeCidrArgs {
    /// Give each node a part of --cluster-cidr for its pods (spec.podCIDRs), which its agent tells its runtime
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    allocate_node_cidrs: bool,
    /// Addresses of all pods: a CIDR, or one of each IP family with a comma
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    cluster_cidr: Vec<String>,
    /// Bits of the mask of a node's part, with a single --cluster-cidr [default: 24 of IPv4, 64 of IPv6]
    #[arg(long, value_name = "BITS", conflicts_with_all = ["node_cidr_mask_size_ipv4", "node_cidr_mask_size_ipv6"])]
    node_cidr_mask_size: Option<u8>,
    /// The same of IPv4, with one of each family
    #[arg(long, value_name = "BITS")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The same of IPv6, with one of each family
    #[arg(long, value_name = "BITS")]
    node_cidr_mask_size_ipv6: Option<u8>,
}

impl NodeCidrArgs {
    /// What is shared out, if anything; `services` are the ranges of Services.
    ///
    /// # Errors
    /// For ranges that are none, or that can't be shared out so.
    pub(crate) fn parse(&self, services: &[String]) -> anyhow::Result<Option<NodeCidrs>> {
        if !self.allocate_node_cidrs {
            anyhow::ensure!(
                self.cluster_cidr.is_empty(),
                "--cluster-cidr has no effect without --allocate-node-cidrs: nodes have the range that their runtime is started with (berth cri --pod-cidr)"
            );
            return Ok(None);
        }
        let cidr = |text: &String| {
            let parsed = text.trim().parse::<IpNet>();
            parsed.with_context(|| {
                format!("--cluster-cidr {text:?}: write it as an address and a length, such as 10.88.0.0/16")
            })
        };
        let cluster: Vec<IpNet> = self
            .cluster_cidr
            .iter()
            .map(cidr)
            .collect::<Result<_, _>>()?;
        anyhow::ensure!(
            !cluster.is_empty(),
            "--allocate-node-cidrs needs the addresses that are given out: --cluster-cidr CIDR"
        );
        anyhow::ensure!(
            self.node_cidr_mask_size.is_none() || cluster.len() == 1,
            "--node-cidr-mask-size is for one range of addresses: use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"
        );
        let one = self.node_cidr_mask_size;
        let cluster = ClusterCidrs::new(
            &cluster,
            self.node_cidr_mask_size_ipv4.or(one),
            self.node_cidr_mask_size_ipv6.or(one),
        )
        .context("--cluster-cidr")?;
        let services: Vec<IpNet> = services
            .iter()
            .map(|cidr| cidr.parse())
            .collect::<Result<_, _>>()
            .context("--service-cluster-ip-range")?;
        Ok(Some(NodeCidrs { cluster, services }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        cidrs: NodeCidrArgs,
    }

    fn parse(given: &[&str]) -> anyhow::Result<Option<NodeCidrs>> {
        let all = ["server"].iter().chain(given);
        let cli = <Cli as clap::Parser>::try_parse_from(all)?;
        cli.cidrs.parse(&["10.96.0.0/16".to_owned()])
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let allocate = "--allocate-node-cidrs";
        assert!(parse(&[]).unwrap().is_none());
        assert!(
            parse(&[allocate, "--cluster-cidr", "10.88.0.0/16"])
                .unwrap()
                .is_some()
        );
        let six = "10.88.0.0/16,fd00::/48";
        let both = [
            "--node-cidr-mask-size-ipv4=25",
            "--node-cidr-mask-size-ipv6=80",
        ];
        assert!(
            parse(&[allocate, "--cluster-cidr", six, both[0], both[1]])
                .unwrap()
                .is_some()
        );
        for (given, said) in [
            (
                &["--cluster-cidr", "10.88.0.0/16"][..],
                "--allocate-node-cidrs",
            ),
            (&[allocate][..], "--cluster-cidr CIDR"),
            (
                &[allocate, "--cluster-cidr", "10.88.0.0"][..],
                "10.88.0.0/16",
            ),
            (&[allocate, "--cluster-cidr", "10.88.0.0/25"][..], "mask"),
            (
                &[allocate, "--cluster-cidr", six, "--node-cidr-mask-size=26"][..],
                "-ipv6",
            ),
        ] {
            let refused = format!("{:#}", parse(given).unwrap_err());
            assert!(refused.contains(said), "{given:?}: {refused}");
        }
    }
}
