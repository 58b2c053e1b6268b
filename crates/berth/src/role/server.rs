//! `berth server`: API server, scheduler and controllers.

mod audit;
mod classes;
mod limits;
pub(crate) mod node_cidrs;
mod services;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth_apiserver::FrontProxyConfig;
use berth_apiserver::authn::StaticToken;
use berth_apiserver::proxy::{LocalNode, NodeClientConfig};
use berth_apiserver::tls::TlsConfig;
use berth_apiserver::tokens::TokenConfig;
use berth_apiserver::user::User;
use berth_apiserver::{Config, PodListener, Server, ServiceSettings, StoreConfig};
use berth_controllers::node_cidrs::NodeCidrs;
use berth_core::gates::FeatureGates;
use berth_trace::Tracer;

use self::audit::AuditArgs;
use self::classes::ClassArgs;
use self::limits::LimitArgs;
pub(crate) use self::limits::parse_duration;
use self::services::ServiceArgs;
use self::store::StoreArgs;
use crate::election::{self, ElectionArgs, Elector, Times};
use crate::pki::{Identity, Pki};
use crate::role::{Roles, Stage};
use crate::{collector, kubeconfig, net};

/// The name of the certificate that the servers of APIServices are shown.
const FRONT_PROXY: &str = "front-proxy-client";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Flags of the feature gates.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct GateArgs {
    /// Feature gates: RuntimeClass, RuntimeClassScheduling, PodOverhead; all are on by default
    #[arg(long, value_name = "NAME=true|false,...", default_value = "")]
    pub(crate) feature_gates: String,
}

impl GateArgs {
    /// The gates.
    ///
    /// # Errors
    /// For an unknown gate, with the list of the known ones.
    pub(crate) fn parse(&self) -> anyhow::Result<FeatureGates> {
        self.feature_gates
            .parse()
            .with_context(|| format!("--feature-gates {:?}", self.feature_gates))
    }
}

/// Flags of the API server, the scheduler and the controllers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address on which the API is served
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Port on which the API is served; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// Directory with the cluster's CA, the key of its tokens and the admin's token, which all servers of a cluster share;
    /// what is missing is made [default: DATA_DIR/server/pki]
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Another name or address for the API server's certificate (may be repeated)
    #[arg(long, value_name = "NAME|IP")]
    pub(crate) tls_san: Vec<String>,
    /// Admission plugins to switch on besides the default ones, comma-separated
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Admission plugins to switch off, comma-separated
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// CA of the nodes' serving certificates: every node must show one of it [default: a node must go on to show what it
    /// showed first]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubelet_certificate_authority: Option<PathBuf>,
    /// Name of a node on this machine, which may be reached at a loopback address (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) local_node: Vec<String>,
    /// Take bootstrap tokens (Secrets of type bootstrap.kubernetes.io/token in kube-system, `berth token create`), with which
    /// machines join
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_bootstrap_token_auth: bool,
    /// Longest life of a service account token in seconds [default: as asked for, up to 2^32]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(3600..=1 << 32))]
    pub(crate) service_account_max_token_expiration: Option<i64>,
    #[command(flatten)]
    pub(crate) services: ServiceArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) election: ElectionArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) audit: AuditArgs,
    /// File with the configuration of traces (kind TracingConfiguration of apiserver.config.k8s.io/v1): where they go and how
    /// many requests have one [default: OTEL_EXPORTER_OTLP_ENDPOINT and its like]
    #[arg(long, value_name = "FILE")]
    pub(crate) tracing_config_file: Option<PathBuf>,
    /// File with the configuration of admission plugins (AdmissionConfiguration): defaults and exemptions of PodSecurity
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Keep pods off nodes that lack their runtime handler, while some node has it
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) schedule_by_handler: bool,
    /// Run the scheduler; switch it off where another one does its work
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) scheduler: bool,
    /// Run the controllers; switch them off where a stock controller manager does their work
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) controllers: bool,
    /// How often it is compared what classes declare as overhead and what nodes have measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) overhead_compare_period: u64,
    #[command(flatten)]
    pub(crate) classes: ClassArgs,
}

/// What runs beside a server in the same process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside<'a> {
    /// The name of the node.
    pub(crate) node: &'a str,
    /// Addresses of its pods, on a bridge of berth's own; none on somebody else's network.
    pub(crate) pod_cidr: Option<&'a str>,
    /// It enforces NetworkPolicies.
    pub(crate) network_policies: bool,
}

/// A server that listens, and what its clients need.
pub(crate) struct Built {
    server: Server,
    /// `https://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// Where the cluster's DNS server is reached.
    pub(crate) dns: Vec<IpAddr>,
    /// Networks of Services.
    pub(crate) service_cidrs: Vec<String>,
    /// What nodes get of the cluster's addresses.
    pub(crate) node_cidrs: Option<NodeCidrs>,
    gates: FeatureGates,
    /// The server's part of the data directory.
    dir: PathBuf,
    schedule_by_handler: Option<bool>,
    controllers: bool,
    overhead_period: Duration,
    managed_classes: Option<berth_controllers::managed_classes::Config>,
    election: Option<Times>,
    /// Where spans go, of whatever else runs in this process as well.
    pub(crate) tracer: Tracer,
}

impl ServerArgs {
    /// Opens the store and binds the port; the node of `beside` runs in this process, with a certificate of `pki`.
    /// `service_cidr` is where Services get addresses unless a flag says otherwise.
    ///
    /// # Errors
    /// Each with a message that says what to do.
    pub(crate) async fn build(
        &self,
        pki: &Pki,
        dir: &Path,
        gates: FeatureGates,
        beside: Option<Beside<'_>>,
        service_cidr: &str,
    ) -> anyhow::Result<Built> {
        let store = self.store.config(dir)?;
        let election = self.election.times(matches!(store, StoreConfig::Etcd(_)))?;
        let mut config = Config::new(self.address(), store);
        let pod_cidr = beside.and_then(|beside| beside.pod_cidr);
        let own = net::own_address();
        config.controllers = self.controllers;
        config.network_policies = beside.is_some_and(|beside| beside.network_policies);
        let shared = matches!(config.store, StoreConfig::Etcd(_));
        config.services = self
            .services
            .settings(dir, service_cidr, pod_cidr, shared)?;
        config.endpoint_reconciler = self.services.reconciler();
        config.advertise = self.advertise(own, pod_cidr)?;
        config.pods = self.pods(config.advertise, pod_cidr)?;
        let serving = self.serving(pki, own, config.advertise, &config.services, &[])?;
        config.tls = Some(tls(serving, pki));
        config.cluster_ca = Some(pki.ca_pem.clone());
        config.authn.bootstrap_tokens = self.enable_bootstrap_token_auth;
        config.authn.static_tokens = vec![StaticToken {
            token: pki.admin_token.clone(),
            user: User::master("admin"),
        }];
        config.tokens = Some(TokenConfig {
            issuer: ISSUER.to_owned(),
            audiences: vec![ISSUER.to_owned()],
            key: pki.service_account_key_pem.clone().into_bytes(),
            max_expiration_seconds: self.service_account_max_token_expiration,
        });
        let to_nodes = pki.client("kube-apiserver-kubelet-client", &["system:masters"])?;
        config.nodes = Some(NodeClientConfig {
            certificate: to_nodes.cert_pem.into_bytes(),
            key: to_nodes.key_pem.into_bytes(),
            ca: self.kubelet_ca()?,
            issuer: Some(pki.ca_pem.clone().into_bytes()),
            local_nodes: self.local_nodes(beside.map(|beside| beside.node)),
        });
        let front_proxy = pki.client(FRONT_PROXY, &[])?;
        config.front_proxy = Some(FrontProxyConfig {
            certificate: front_proxy.cert_pem.into_bytes(),
            key: front_proxy.key_pem.into_bytes(),
            ca: pki.ca_pem.clone().into_bytes(),
            allowed_names: vec![FRONT_PROXY.to_owned()],
            client_ca: pki.ca_pem.clone().into_bytes(),
        });
        config.limits = self.limits.limits();
        config.gates = gates;
        config.audit = self.audit.config()?;
        let tracer = collector::tracer(self.tracing_config_file.as_deref())?;
        config.tracer = tracer.clone();
        config
            .encryption_provider_config
            .clone_from(&self.store.encryption_provider_config);
        config.encryption_provider_reload = self.store.encryption_reload();
        config
            .enable_admission_plugins
            .clone_from(&self.enable_admission_plugins);
        config
            .disable_admission_plugins
            .clone_from(&self.disable_admission_plugins);
        config
            .admission_control_config_file
            .clone_from(&self.admission_control_config_file);
        config
            .pod_template_paths
            .clone_from(&self.classes.pod_template_paths);
        config.more_metrics = Some(berth_supervise::measures::register);
        let (services, advertise) = (config.services.clone(), config.advertise);
        let mut server = config.build().await?;
        let kept = server.kubernetes_addresses();
        if kept
            .iter()
            .any(|address| *address != services.kubernetes_ip())
        {
            let serving = self.serving(pki, own, advertise, &services, &kept)?;
            server.set_tls(&tls(serving, pki))?;
        }
        let url = format!("https://{}", self.reach(server.local_addr()));
        Ok(Built {
            server,
            url,
            dns: services.dns_ips(),
            service_cidrs: services.cidrs(),
            node_cidrs: None,
            gates,
            dir: dir.to_owned(),
            schedule_by_handler: self.scheduler.then_some(self.schedule_by_handler),
            controllers: self.controllers,
            overhead_period: Duration::from_secs(self.overhead_compare_period),
            managed_classes: self.classes.managed(
                beside.is_some(),
                Duration::from_secs(self.overhead_compare_period),
            ),
            election,
            tracer,
        })
    }

    /// Where the API is served.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.secure_port)
    }

    /// The cluster's authority.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub(crate) fn pki(&self, dir: &Path) -> anyhow::Result<Pki> {
        let own = dir.join("pki");
        Ok(Pki::open(self.cert_dir.as_deref().unwrap_or(&own))?)
    }

    fn kubelet_ca(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        self.kubelet_certificate_authority
            .as_ref()
            .map(read)
            .transpose()
    }

    fn local_nodes(&self, own: Option<&str>) -> BTreeMap<String, LocalNode> {
        let named = self.local_node.iter();
        named
            .map(|name| (name.clone(), LocalNode { issued: false }))
            .chain(own.map(|name| (name.to_owned(), LocalNode { issued: true })))
            .collect()
    }

    /// The address that others reach this server at.
    fn advertise(&self, own: IpAddr, pod_cidr: Option<&str>) -> anyhow::Result<IpAddr> {
        if let Some(address) = self.services.advertise_address {
            anyhow::ensure!(
                !address.is_loopback() && !address.is_unspecified(),
                "--advertise-address {address}: nobody else reaches this server there; name an address of this machine"
            );
            return Ok(address);
        }
        let address = if self.bind_address.is_unspecified() {
            own
        } else {
            self.bind_address
        };
        // Pods of this machine reach it at their bridge.
        let bridge = pod_cidr.and_then(net::gateway);
        Ok(bridge.filter(|_| address.is_loopback()).unwrap_or(address))
    }

    /// The socket for this machine's pods, of a server that listens where they can't reach it.
    fn pods(
        &self,
        advertise: IpAddr,
        pod_cidr: Option<&str>,
    ) -> anyhow::Result<Option<PodListener>> {
        let Some(subnets) = pod_cidr.filter(|_| self.bind_address.is_loopback()) else {
            return Ok(None);
        };
        if net::gateway(subnets) != Some(advertise) {
            return Ok(None);
        }
        let address = SocketAddr::new(advertise, self.secure_port);
        let listener = net::listen_ahead(address).with_context(|| {
            format!("cannot listen on {address} for pods (stop what uses it, or choose another --secure-port)")
        })?;
        Ok(Some(PodListener {
            listener: Arc::new(listener),
            subnets: subnets.to_owned(),
        }))
    }

    fn serving(
        &self,
        pki: &Pki,
        own: IpAddr,
        advertise: IpAddr,
        services: &ServiceSettings,
        kept: &[IpAddr],
    ) -> anyhow::Result<Identity> {
        let mut names = vec![
            "localhost".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
            net::host_name(),
        ];
        let mut addresses = vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            services.kubernetes_ip(),
            own,
            advertise,
        ];
        // What pods that run already have as the API server's address.
        addresses.extend(kept);
        if !self.bind_address.is_unspecified() {
            addresses.push(self.bind_address);
        }
        for san in &self.tls_san {
            match san.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => names.push(san.clone()),
            }
        }
        addresses.sort();
        addresses.dedup();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(pki.serving("kube-apiserver", &names, &addresses)?)
    }

    /// How a client on this machine reaches the server.
    fn reach(&self, bound: SocketAddr) -> SocketAddr {
        let ip = match self.bind_address {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, bound.port())
    }
}

/// The directory of add-ons, made where it is not there.
fn make_manifests(dir: &Path) -> anyhow::Result<PathBuf> {
    let manifests = dir.join("manifests");
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let made = builder.create(&manifests);
    made.with_context(|| format!("cannot make {}", manifests.display()))?;
    Ok(manifests)
}

/// What the server shows, and whose certificates it takes.
fn tls(serving: Identity, pki: &Pki) -> TlsConfig {
    TlsConfig {
        certificate: serving.cert_pem.into_bytes(),
        key: serving.key_pem.into_bytes(),
        client_ca: Some(pki.ca_pem.clone().into_bytes()),
    }
}

impl Built {
    /// Starts serving, and the scheduler and the controllers as clients.
    ///
    /// # Errors
    /// When a client can't be made.
    pub(crate) async fn spawn(self, pki: &Pki, roles: &mut Roles) -> anyhow::Result<()> {
        let Self {
            server,
            url,
            gates,
            dir,
            schedule_by_handler,
            controllers,
            overhead_period,
            managed_classes,
            election,
            tracer,
            dns: _,
            service_cidrs: _,
            node_cidrs,
        } = self;
        roles.spawn(Stage::Server, "API server", |token| async move {
            Ok(server.serve(token).await?)
        });
        let client = async |user: &str, groups: &[&str]| {
            let identity = pki.client(user, groups)?;
            kubeconfig::client(&url, &pki.ca_pem, &identity).await
        };
        let me = format!("{}_{}", net::host_name(), election::unique());
        let elector = |client: &kube::Client, lease| {
            election.map(|times| Elector::new(client.clone(), lease, &me, times))
        };
        if let Some(by_handler) = schedule_by_handler {
            let client = client("system:kube-scheduler", &[]).await?;
            let elector = elector(&client, "kube-scheduler");
            let mut scheduler = berth_scheduler::Config::new(client);
            scheduler.gates = gates;
            scheduler.by_handler = by_handler;
            scheduler.tracer = tracer;
            let work = move |token| {
                let running = berth_scheduler::run(scheduler.clone(), token);
                async { Ok(running.await?) }
            };
            roles.spawn(Stage::Clients, "scheduler", |token| {
                election::run(elector, token, work)
            });
        }
        let addons = berth_controllers::addons::Config {
            client: client("system:addons", &["system:masters"]).await?,
            manifests: make_manifests(&dir)?,
            record: dir.join("addons.json"),
        };
        roles.spawn(Stage::Clients, "add-ons", |token| async move {
            berth_controllers::addons::run(addons, token).await;
            Ok(())
        });
        // The stock controller manager borrows an account a controller; ours empties namespaces of every
        // kind there will ever be, which takes the right to delete anything.
        let manager = client("system:kube-controller-manager", &["system:masters"]).await?;
        let elector = elector(&manager, "berth-controllers");
        let mut config = berth_controllers::Config::new(manager, pki.ca_pem.clone());
        config.gates = gates;
        config.overhead_period = Some(overhead_period);
        config.managed_classes = managed_classes;
        config.node_cidrs = node_cidrs;
        config.authority = Some(Arc::new(pki.authority()?));
        let work = move |token| {
            let running = if controllers {
                berth_controllers::run(config.clone(), token)
            } else {
                berth_controllers::run_quota_status(config.clone(), token)
            };
            async { Ok(running.await?) }
        };
        roles.spawn(Stage::Clients, "controllers", |token| {
            election::run(elector, token, work)
        });
        Ok(())
    }
}
