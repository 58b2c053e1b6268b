//! Flags of Services: where their addresses and node ports come from, and where the API server itself is found.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use berth_apiserver::{EndpointReconciler, ServiceSettings};

use crate::pki;

/// The file in the server's directory that keeps the range which was chosen at the first start.
const CHOSEN: &str = "service-cluster-ip-range";
/// What is taken instead when a range is used on this machine already.
const OTHERS: [&str; 4] = [
    "10.96.0.0/16",
    "10.97.0.0/16",
    "172.30.0.0/16",
    "10.43.0.0/16",
];

/// How servers keep their addresses among the endpoints of `default/kubernetes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Reconciler {
    /// Each keeps up a lease in the store they share.
    #[default]
    Lease,
    /// Not at all.
    None,
}

/// Flags of Services; all have the stock server's names.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ServiceArgs {
    /// Addresses of Services: a CIDR, or one of each IP family with a comma [default: 10.96.0.0/16, or another range
    /// where this machine uses that already]
    #[arg(long, value_name = "CIDR,...")]
    service_cluster_ip_range: Option<String>,
    /// Ports of nodes that Services may have
    #[arg(long, value_name = "FIRST-LAST", default_value = ServiceSettings::DEFAULT_NODE_PORTS)]
    service_node_port_range: String,
    /// Address at which others reach this server, pods among them [default: --bind-address, or where that is none, this
    /// machine's]
    #[arg(long, value_name = "IP")]
    pub(super) advertise_address: Option<IpAddr>,
    /// How the endpoints of the Service default/kubernetes are kept
    #[arg(long, value_enum, default_value = "lease")]
    endpoint_reconciler_type: Reconciler,
}

impl ServiceArgs {
    pub(super) fn reconciler(&self) -> EndpointReconciler {
        match self.endpoint_reconciler_type {
            Reconciler::Lease => EndpointReconciler::Lease,
            Reconciler::None => EndpointReconciler::None,
        }
    }

    /// The ranges. Without a flag it is the stock one where several servers share a store, which must have the same; else
    /// `usual`, unless this machine uses that; what was chosen once stays.
    ///
    /// # Errors
    /// For ranges that are none, or when the choice cannot be kept.
    pub(super) fn settings(
        &self,
        dir: &Path,
        usual: &str,
        pod_cidr: Option<&str>,
        shared: bool,
    ) -> anyhow::Result<ServiceSettings> {
        let cidrs = match &self.service_cluster_ip_range {
            Some(cidrs) => cidrs.clone(),
            None if shared => ServiceSettings::DEFAULT_CIDR.to_owned(),
            None => chosen(&dir.join(CHOSEN), usual, pod_cidr)?,
        };
        ServiceSettings::parse(&cidrs, &self.service_node_port_range).map_err(|error| {
            anyhow!("--service-cluster-ip-range, --service-node-port-range: {error}")
        })
    }
}

fn chosen(file: &Path, usual: &str, pod_cidr: Option<&str>) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    }
    let mut used = used();
    used.extend(
        pod_cidr
            .into_iter()
            .flat_map(|list| list.split(','))
            .filter_map(network),
    );
    let is_free = |cidr: &&str| {
        let own = network(cidr);
        own.is_some_and(|own| !used.iter().any(|other| overlap(own, *other)))
    };
    let all = std::iter::once(usual).chain(OTHERS);
    let found = all.clone().find(is_free).unwrap_or(usual);
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    pki::write_secret(file, found)?;
    Ok(found.to_owned())
}

/// An IPv4 network: its first address, and the mask.
type Network = (u32, u32);

fn network(cidr: &str) -> Option<Network> {
    let (address, bits) = cidr.trim().split_once('/')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
    Some((address.to_bits() & mask, mask))
}

fn overlap(one: Network, other: Network) -> bool {
    let mask = one.1 & other.1;
    one.0 & mask == other.0 & mask
}

/// The networks that this machine has routes to; the default route is none.
fn used() -> Vec<Network> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes(&text)
}

fn routes(text: &str) -> Vec<Network> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some((number(words.get(1)?)?, number(words.get(7)?)?))
        })
        .filter(|(_, mask)| *mask != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_uses_is_left_alone() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nens3\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
                    ens3\t0000600A\t00000000\t0001\t0\t0\t0\t0000FFFF\n";
        let found = routes(text);
        assert_eq!(found.len(), 1);
        let is_used = |cidr| overlap(network(cidr).unwrap(), found[0]);
        assert!(is_used("10.96.0.0/16"));
        assert!(is_used("10.96.7.0/24"));
        assert!(is_used("10.0.0.0/8"));
        assert!(!is_used("10.97.0.0/16"));
    }

    #[test]
    fn a_choice_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(CHOSEN);
        let first = chosen(&file, "198.18.0.0/20", Some("198.18.1.0/24")).unwrap();
        assert_ne!(first, "198.18.0.0/20");
        assert_eq!(chosen(&file, "198.18.0.0/20", None).unwrap(), first);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            chosen(&file, "198.18.0.0/20", None).unwrap(),
            "198.18.0.0/20"
        );
    }
}
