//! `berth up`: every role in one process, wired as if they were apart.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use berth_net::policy::PolicyConfig;
use berth_net::services::ServiceProxyConfig;
use berth_node::{ServingCertificate, ServingTls};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::pki::Pki;
use crate::role::cri::{HandlerArgs, ImageArgs, NetworkArgs};
use crate::role::node::NodeArgs;
use crate::role::server::{Beside, GateArgs, ServerArgs};
use crate::role::{self, Roles, Stage};
use crate::{kubeconfig, memory, net};

/// How long a start may take before berth says what it waits for.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(15);

#[derive(Debug, clap::Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    dirs: DirArgs,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten, next_help_heading = "API server")]
    server: ServerArgs,
    #[command(flatten, next_help_heading = "Node")]
    node: NodeArgs,
    #[command(flatten, next_help_heading = "Runtime handlers")]
    handlers: HandlerArgs,
    #[command(flatten, next_help_heading = "Network")]
    network: NetworkArgs,
    /// Lead what is sent to Services to their endpoints, by nftables; switch it off where kube-proxy runs
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, help_heading = "Network")]
    service_proxy: bool,
    /// Enforce NetworkPolicies, and what RuntimeClasses deny their pods, by nftables; switch it off where something else filters what
    /// pods of berth's own network send. A network of somebody else's is left to its plugin
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, help_heading = "Network")]
    network_policy: bool,
    /// Addresses that Services may claim by externalIPs (may be repeated): who may write Services takes what is sent there
    #[arg(
        long = "service-external-ips",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    external_ips: Vec<String>,
    /// Run the cluster's DNS server, and let pods use it; switch it off where another one runs (and name it with --cluster-dns)
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, help_heading = "Network")]
    dns: bool,
    #[command(flatten, next_help_heading = "Images")]
    images: ImageArgs,
}

impl UpArgs {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let (started, began) = (Instant::now(), jiff::Timestamp::now());
        let gates = self.gates.parse()?;
        require_root("berth up")?;
        raise_file_limit();
        let (bridge, pod_cidr) = self.dirs.network();
        if !self.dirs.data_dir.exists() {
            // A first start that fails for this leaves nothing behind.
            net::check_free(self.server.address())?;
            net::check_free(self.node.kubelet_address)?;
        }
        let data = DataDir::open(&self.dirs.data_dir, || data_dir::marker(bridge, pod_cidr))?;
        let run_dir = self.dirs.run_dir();
        let marker = data.marker();
        let mut cri = role::cri::config(
            data.path(),
            &run_dir,
            &self.handlers,
            &self.network,
            &self.images,
            (&marker.bridge, &marker.pod_cidr),
        )?;
        let bridge = cri.cni.default_network.as_ref().map(|n| n.bridge.as_str());
        data.note_use(&run_dir, bridge.unwrap_or(&marker.bridge))?;
        let cri_socket = cri.socket.clone();
        let server_dir = data.path().join("server");
        let pki = self.server.pki(&server_dir)?;
        let name = self.node.name();
        let own_network = cri
            .cni
            .default_network
            .clone()
            .filter(|_| !role::cri::is_foreign_network(&cri));
        let filtered = own_network.clone().filter(|_| self.network_policy);
        let beside = Beside {
            node: &name,
            pod_cidr: own_network.as_ref().map(|network| network.subnet.as_str()),
            network_policies: filtered.is_some(),
        };
        let service_cidr = self.dirs.service_cidr();
        let server = self
            .server
            .build(&pki, &server_dir, gates, Some(beside), &service_cidr)
            .await?;
        let url = server.url.clone();
        cri.tracer = server.tracer.clone();
        let tracer = server.tracer.clone();

        let admin = pki.client("admin", &["system:masters"])?;
        let kubeconfig_path = data.path().join("admin.kubeconfig");
        kubeconfig::write(&kubeconfig_path, &url, &pki.ca_pem, &admin)?;

        let mut roles = Roles::new();
        let own_dns = self.dns && self.node.cluster_dns.is_empty() && !server.dns.is_empty();
        let (dns_addresses, service_cidrs) = (server.dns.clone(), server.service_cidrs.clone());
        if own_dns {
            self.node.cluster_dns.clone_from(&dns_addresses);
        }
        let own_dns_addresses = own_dns.then(|| dns_addresses.clone());
        server.spawn(&pki, &mut roles).await?;
        roles.spawn(Stage::Runtime, "container runtime", |token| async move {
            Ok(berth_cri::run(cri, token).await?)
        });
        if self.service_proxy {
            let identity = pki.client("system:kube-proxy", &[])?;
            let balancer = pki.client("service-lb-controller", &["system:masters"])?;
            let own_ports = [
                self.server.address().port(),
                self.node.kubelet_address.port(),
            ];
            let proxy = ServiceProxyConfig {
                client: kubeconfig::client(&url, &pki.ca_pem, &identity).await?,
                network: own_network
                    .as_ref()
                    .map_or_else(|| marker.bridge.clone(), |network| network.bridge.clone()),
                pod_cidrs: own_network
                    .iter()
                    .map(|network| network.subnet.clone())
                    .collect(),
                node: name.clone(),
                addresses: vec![self.node.address()],
                reserved: own_ports.into(),
                external_ips: self.external_ips.clone(),
                balancer: Some(kubeconfig::client(&url, &pki.ca_pem, &balancer).await?),
            };
            roles.spawn(Stage::Clients, "service proxy", |token| async move {
                berth_net::services::run(proxy, token)?.await;
                Ok(())
            });
        }
        let mut parts = Parts { began, dns: None };
        if own_dns {
            let skipped = CancellationToken::new();
            parts.dns = Some((dns_addresses.clone(), skipped.clone()));
            // It needs what a kube-proxy may: to list and watch Services and their endpoints.
            let identity = pki.client("system:kube-proxy", &[])?;
            let dns = berth_dns::Config {
                client: kubeconfig::client(&url, &pki.ca_pem, &identity).await?,
                domain: self.node.cluster_domain.clone(),
                addresses: dns_addresses,
                bridge: own_network.as_ref().map(|network| network.bridge.clone()),
                pod_cidrs: own_network
                    .iter()
                    .map(|network| network.subnet.clone())
                    .collect(),
                service_cidrs,
                resolv_conf: self.node.resolv_conf(),
            };
            let admin = kubeconfig::client(&url, &pki.ca_pem, &admin).await?;
            roles.spawn(Stage::Clients, "DNS server", |token| {
                role::dns::run(dns, admin, token, skipped)
            });
        }
        if filtered.is_none() {
            let bridge = own_network
                .as_ref()
                .map_or(&marker.bridge, |network| &network.bridge);
            if let Err(error) = berth_net::policy::remove(bridge).await {
                warn!(bridge, %error, "the rules of NetworkPolicies, which are not enforced any more, cannot be removed");
            }
        }
        let mut policies = None;
        if let Some(network) = filtered {
            let identity = pki.client("system:network-policy", &[])?;
            let config = PolicyConfig {
                client: kubeconfig::client(&url, &pki.ca_pem, &identity).await?,
                bridge: Some(network.bridge),
                pod_cidrs: vec![network.subnet],
                marks_ports: false,
                bridges: None,
                node: name.clone(),
                dns: own_dns_addresses.unwrap_or_default(),
                runtime_classes: gates.runtime_class,
                remembered: data.path().join("node/network-policy.json"),
            };
            let (handle, enforcer) = berth_net::policy::prepare(config)?;
            policies = Some(handle);
            roles.spawn(Stage::Clients, "network policies", |token| async move {
                enforcer.run(token).await;
                Ok(())
            });
        }
        let identity = pki.client(&format!("system:node:{name}"), &["system:nodes"])?;
        let mut node = self.node.config(
            kubeconfig::client(&url, &pki.ca_pem, &identity).await?,
            cri_socket,
            &data.path().join("node"),
            self.dirs.pod_logs_dir(),
            self.serving(&pki)?,
            &gates,
        )?;
        node.tracer = tracer;
        node.network_policies = policies;
        roles.spawn(Stage::Clients, "node agent", |token| async move {
            Ok(berth_node::run(node, token).await?)
        });
        let client = kubeconfig::client(&url, &pki.ca_pem, &admin).await?;
        let told = async {
            let Some(node) = ready(client, &name, &parts).await else {
                return Ok(());
            };
            memory::give_back();
            Welcome {
                url,
                node,
                kubeconfig: kubeconfig_path,
                took: started.elapsed(),
            }
            .print()
        };
        roles.run(told).await
    }

    fn serving(&self, pki: &Pki) -> anyhow::Result<ServingTls> {
        let name = self.node.name();
        let addresses = [self.node.address(), [127, 0, 0, 1].into()];
        let identity = pki.serving(
            &format!("system:node:{name}"),
            &[&name, "localhost"],
            &addresses,
        )?;
        Ok(ServingTls {
            certificate: ServingCertificate::Given {
                cert_pem: identity.cert_pem,
                key_pem: identity.key_pem,
            },
            client_ca_pem: pki.ca_pem.clone(),
        })
    }
}

/// Refuses to go on without root.
///
/// # Errors
/// With a message that says what to do.
pub(super) fn require_root(command: &str) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{command} needs root: it makes namespaces, mounts and cgroups. Run it with sudo"
    );
    Ok(())
}

/// A pod costs a few descriptors; the usual soft limit of 1024 is soon reached.
pub(super) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// What a start waits for, besides what the API shows.
struct Parts {
    /// When this run began: what the API holds may be an earlier one's.
    began: jiff::Timestamp,
    /// The addresses of the cluster's DNS server, and whether it turned out not to be berth's to serve.
    dns: Option<(Vec<IpAddr>, CancellationToken)>,
}

/// DNS over TCP.
const DNS_PORT: u16 = 53;

impl Parts {
    /// Whether the DNS server answers, where there is one.
    async fn has_dns(&self) -> bool {
        let Some((addresses, skipped)) = &self.dns else {
            return true;
        };
        if skipped.is_cancelled() {
            return true;
        }
        for address in addresses {
            let connection = TcpStream::connect((*address, DNS_PORT));
            if !matches!(tokio::time::timeout(DNS_LOOK, connection).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }
}

/// How long a connection to the DNS server of this machine may take.
const DNS_LOOK: Duration = Duration::from_secs(1);

/// Waits until each part does its work: pods can be created, run and find each other by name. `None` when that takes too
/// long, which is only said: the roles go on trying.
async fn ready(client: kube::Client, name: &str, parts: &Parts) -> Option<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let end = Instant::now() + PATIENCE;
    loop {
        let node = nodes.get_opt(name).await.ok().flatten();
        let is_ready = node
            .as_ref()
            .is_some_and(|node| is_ready(node, parts.began));
        let account = matches!(accounts.get_opt("default").await, Ok(Some(_)));
        let dns = is_ready && account && parts.has_dns().await;
        if dns {
            return node;
        }
        if Instant::now() > end {
            let what = match (node, account) {
                (None, _) => "the node has not registered".to_owned(),
                (Some(_), false) => "namespace default has no service account".to_owned(),
                (Some(_), true) if is_ready => "the DNS server does not answer".to_owned(),
                (Some(node), true) => format!("the node is not ready: {}", why_not(&node)),
            };
            warn!("not ready after {} s: {what}; going on", PATIENCE.as_secs());
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a node says of itself that isn't ready.
fn why_not(node: &Node) -> &str {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .filter(|condition| condition.type_ == "Ready")
        .find_map(|condition| condition.message.as_deref())
        .unwrap_or("kubectl describe node says why")
}

/// Ready, as this run's node agent says it, and free of the taints that keep pods away until the controllers have seen that.
fn is_ready(node: &Node, began: jiff::Timestamp) -> bool {
    let status = node.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    conditions.iter().any(|condition| {
        let told = condition.last_heartbeat_time.as_ref();
        condition.type_ == "Ready"
                && condition.status == "True"
                // Times of the API have whole seconds.
                && told.is_some_and(|at| at.0.as_second() >= began.as_second())
    }) && !taints
        .iter()
        .any(|taint| taint.key == "node.kubernetes.io/not-ready")
}

/// What a person needs next.
struct Welcome {
    url: String,
    node: Node,
    kubeconfig: PathBuf,
    took: Duration,
}

impl Welcome {
    fn print(&self) -> anyhow::Result<()> {
        let handlers = self
            .node
            .status
            .as_ref()
            .and_then(|status| status.runtime_handlers.as_deref())
            .unwrap_or_default()
            .iter()
            .map(|handler| match handler.name.as_deref() {
                None | Some("") => "(default)",
                Some(name) => name,
            })
            .collect::<Vec<_>>()
            .join(", ");
        let broken: String = berth_core::handlers::broken(&self.node)
            .iter()
            .map(|(name, reason)| {
                format!(
                    "\x20 not usable  {}\n",
                    berth_core::handlers::cannot_run(name, reason)
                )
            })
            .collect();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "berth is ready after {:.2} s\n\
             \x20 API server  {}\n\
             \x20 kubeconfig  {}\n\
             \x20 node        {}\n\
             \x20 handlers    {}\n\
             {broken}\
             Next, in another terminal:\n\
             \x20 export KUBECONFIG={}\n\
             \x20 kubectl get nodes\n\
             Ctrl-C (or kill {}) stops berth; pods keep running, and the next start takes them over.",
            self.took.as_secs_f64(),
            self.url,
            self.kubeconfig.display(),
            self.node.metadata.name.as_deref().unwrap_or_default(),
            if handlers.is_empty() { "none reported" } else { &handlers },
            self.kubeconfig.display(),
            std::process::id(),
        )
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
    }
}
