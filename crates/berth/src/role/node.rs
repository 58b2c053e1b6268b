//! `berth node`: the node agent.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use berth_core::gates::FeatureGates;
use berth_node::{Config, Gates, ServingTls, SwapBehavior, UnsupportedHandler};
use k8s_openapi::api::core::v1::Taint;

use crate::net;

/// What becomes of a pod whose handler the runtime does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unsupported {
    /// It fails, as the RuntimeClass documents say.
    #[default]
    Fail,
    /// It stays Pending and is tried again, as under the stock kubelet.
    Retry,
}

/// What containers may use of the machine's swap, in the words of a kubelet's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Swap {
    /// None
    #[default]
    #[value(name = "NoSwap")]
    NoSwap,
    /// Containers of Burstable pods have a share by their request of memory; needs cgroup version 2
    #[value(name = "LimitedSwap")]
    LimitedSwap,
}

/// Flags of the node agent.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// Name of the Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Address to report [default: the address towards the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Where the node's server (logs, exec, attach, port-forward) listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:10250")]
    pub(crate) kubelet_address: SocketAddr,
    /// A pod whose handler the runtime lacks: let it fail, or retry as the stock kubelet does
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) unsupported_handler: Unsupported,
    /// Label of the Node (may be repeated)
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    pub(crate) node_labels: Vec<String>,
    /// Taint to register the Node with (may be repeated)
    #[arg(long = "register-with-taint", value_name = "KEY=VALUE:EFFECT")]
    pub(crate) taints: Vec<String>,
    /// Sysctl that pods may set besides the safe ones, or the beginning of such names with * after it (may be repeated)
    #[arg(long, value_name = "NAME|PREFIX*", value_delimiter = ',')]
    pub(crate) allowed_unsafe_sysctls: Vec<String>,
    /// What containers may use of the machine's swap
    #[arg(long, value_enum, default_value = "NoSwap", ignore_case = true)]
    pub(crate) swap_behavior: Swap,
    /// How many pods the node takes
    #[arg(long, default_value_t = 110)]
    pub(crate) max_pods: u32,
    /// Address of the cluster's DNS server (may be repeated) [default: with `berth up`, that of berth's own]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// Directory with manifests of static pods: they run whatever the API server says
    #[arg(long, value_name = "DIR", visible_alias = "static-pod-path")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Where device plugins register (device-plugins/kubelet.sock) and pods' devices can be asked for
    /// (pod-resources/kubelet.sock); vendors' DaemonSets expect /var/lib/kubelet [default: the node's own directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// Directory for volumes of the StorageClass local-path: it must be there, and root's alone to write [default: local-path in
    /// the node's own directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) local_path_dir: Option<PathBuf>,
    /// The cluster's DNS domain
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// File with the node's resolvers, for pods with dnsPolicy Default and for names outside the cluster [default:
    /// /etc/resolv.conf, or systemd-resolved's list of servers where that file names only its stub]
    #[arg(long, value_name = "FILE")]
    pub(crate) resolv_conf: Option<PathBuf>,
    /// How often it is measured what sandboxes cost beyond their containers, in seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) overhead_measure_period: u64,
}

impl NodeArgs {
    /// The node's name.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        self.node_name.clone().unwrap_or_else(net::host_name)
    }

    /// The node's address: where the API server finds its server, so one on which that listens.
    #[must_use]
    pub(crate) fn address(&self) -> IpAddr {
        let listens = self.kubelet_address.ip();
        let only = (!listens.is_unspecified()).then_some(listens);
        self.node_ip.or(only).unwrap_or_else(net::own_address)
    }

    /// The file with the node's resolvers.
    #[must_use]
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.resolv_conf.clone().unwrap_or_else(net::resolv_conf)
    }

    /// Logs, exec, attach and port-forward would fail without a word otherwise.
    fn check_address(&self) -> anyhow::Result<()> {
        let (listens, reported) = (self.kubelet_address.ip(), self.address());
        anyhow::ensure!(
            listens.is_unspecified() || listens == reported,
            "--node-ip {reported}: nothing listens there, since --kubelet-address is {}; logs, exec, attach and port-forward would fail. \
             Let it listen on that address, or on all of them (--kubelet-address 0.0.0.0:{})",
            self.kubelet_address,
            self.kubelet_address.port()
        );
        if listens.is_loopback() {
            tracing::warn!(address = %self.kubelet_address, "the node reports a loopback address: only an API server on this machine that was started with --local-node reaches its logs, exec, attach and port-forward");
        }
        Ok(())
    }

    /// The agent's settings.
    ///
    /// # Errors
    /// When a label or taint can't be read.
    pub(crate) fn config(
        &self,
        client: kube::Client,
        cri_socket: PathBuf,
        root_dir: &Path,
        pod_logs_dir: PathBuf,
        tls: ServingTls,
        gates: &FeatureGates,
    ) -> anyhow::Result<Config> {
        self.check_address()?;
        let mut config = Config::new(client, self.name(), cri_socket, root_dir, tls);
        config.node_ip = Some(self.address());
        config.pod_logs_dir = pod_logs_dir;
        config.bind = self.kubelet_address;
        config.static_pod_dir.clone_from(&self.pod_manifest_path);
        if let Some(dir) = &self.plugins_dir {
            config.plugin_dir = crate::dirs::absolute(dir);
        }
        if let Some(dir) = &self.local_path_dir {
            config.local_path_dir = crate::dirs::absolute(dir);
        }
        config.gates = Gates {
            runtime_class: gates.runtime_class,
            pod_overhead: gates.runtime_class && gates.pod_overhead,
        };
        config.unsupported_handler = match self.unsupported_handler {
            Unsupported::Fail => UnsupportedHandler::Fail,
            Unsupported::Retry => UnsupportedHandler::Retry,
        };
        config
            .allowed_unsafe_sysctls
            .clone_from(&self.allowed_unsafe_sysctls);
        config.swap_behavior = match self.swap_behavior {
            Swap::NoSwap => SwapBehavior::NoSwap,
            Swap::LimitedSwap => SwapBehavior::LimitedSwap,
        };
        config.max_pods = self.max_pods;
        config.cluster_dns.clone_from(&self.cluster_dns);
        config.cluster_domain.clone_from(&self.cluster_domain);
        config.resolv_conf = self.resolv_conf();
        config.overhead_period = Duration::from_secs(self.overhead_measure_period);
        config.node_labels = self.labels()?;
        config.register_taints = self
            .taints
            .iter()
            .map(|text| taint(text))
            .collect::<anyhow::Result<_>>()?;
        Ok(config)
    }

    fn labels(&self) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
        self.node_labels
            .iter()
            .flat_map(|list| list.split(','))
            .map(|label| {
                let (key, value) = label
                    .split_once('=')
                    .with_context(|| format!("--node-label {label:?}: write it as KEY=VALUE"))?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect()
    }
}

fn taint(text: &str) -> anyhow::Result<Taint> {
    let wrong =
        || format!("--register-with-taint {text:?}: write it as KEY=VALUE:EFFECT or KEY:EFFECT");
    let (left, effect) = text.rsplit_once(':').with_context(wrong)?;
    anyhow::ensure!(
        ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect),
        "--register-with-taint {text:?}: the effect is NoSchedule, PreferNoSchedule or NoExecute"
    );
    let (key, value) = match left.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (left, None),
    };
    anyhow::ensure!(!key.is_empty(), wrong());
    Ok(Taint {
        key: key.to_owned(),
        value,
        effect: effect.to_owned(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn args(given: &[&str]) -> NodeArgs {
        let all = ["node"].iter().chain(given);
        <Cli as clap::Parser>::parse_from(all).node
    }

    #[test]
    fn the_node_reports_an_address_on_which_it_listens() {
        let address = |given: &[&str]| args(given).address().to_string();
        assert_eq!(
            address(&["--kubelet-address", "127.0.0.1:10250"]),
            "127.0.0.1"
        );
        assert_eq!(address(&["--kubelet-address", "192.0.2.7:0"]), "192.0.2.7");
        let ip = ["--node-ip", "192.0.2.7", "--kubelet-address"];
        for good in ["0.0.0.0:0", "[::]:0", "192.0.2.7:0"] {
            let given = [ip.as_slice(), &[good]].concat();
            assert_eq!(address(&given), "192.0.2.7");
            args(&given).check_address().unwrap();
        }
        let given = [ip.as_slice(), &["127.0.0.1:10250"]].concat();
        let refused = args(&given).check_address().unwrap_err().to_string();
        assert!(
            refused.contains("--kubelet-address 0.0.0.0:10250"),
            "{refused}"
        );
    }

    #[test]
    fn taints_are_read_as_the_kubelet_reads_them() {
        let read = taint("gpu=yes:NoSchedule").unwrap();
        assert_eq!(
            (read.key.as_str(), read.value.as_deref()),
            ("gpu", Some("yes"))
        );
        assert_eq!(taint("gpu:NoExecute").unwrap().value, None);
        for bad in ["gpu", "gpu=yes", "gpu:Never", "=x:NoSchedule"] {
            assert!(taint(bad).is_err(), "{bad}");
        }
    }
}
