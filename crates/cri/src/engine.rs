//! What all RPCs share: settings, tables, the image store, and the objects in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use berth_image::{ImageStore, StoreOptions};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::apparmor::AppArmor;
use crate::cni::{self, CniError, Network};
use crate::container::Container;
use crate::error::CriError;
use crate::events::Events;
use crate::handlers::HandlerTable;
use crate::held::Held;
use crate::layout::{Layout, make_shared};
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::streaming::Streaming;
use crate::tasks::Tasks;
use crate::warm::Pool;

/// How long Status waits for the trials of the start: longer than a gVisor's only platform takes that hangs.
const TRIALS: Duration = Duration::from_secs(12);

pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) handlers: ArcSwap<HandlerTable>,
    pub(crate) images: ImageStore,
    pub(crate) host: berth_oci::Host,
    pub(crate) apparmor: AppArmor,
    pub(crate) sandboxes: Registry<Sandbox>,
    /// Sandboxes that wait for their pod, and are none for anybody else.
    pub(crate) warm: Pool<Sandbox>,
    pub(crate) containers: Registry<Container>,
    pub(crate) events: Events,
    pub(crate) streaming: Streaming,
    pub(crate) tasks: Tasks,
    /// Sandboxes and containers whose records can't be read.
    pub(crate) held: Held,
    /// Ends streams that have no end of their own.
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when the trials of the start have ended.
    pub(crate) tried: CancellationToken,
    /// The pod CIDR from `UpdateRuntimeConfig`.
    pod_cidr: RwLock<Option<String>>,
}

impl Engine {
    /// Opens the directories. Blocks.
    pub(crate) fn open(
        config: Config,
        handlers: HandlerTable,
        streaming: Streaming,
        tasks: Tasks,
        shutdown: CancellationToken,
    ) -> Result<Self, CriError> {
        let layout = Layout::new(&config);
        for (dir, mode) in layout.all() {
            make_shared(&dir, mode).map_err(CriError::io("make", &dir))?;
        }
        let mut options = StoreOptions {
            hosts_dirs: hosts_dirs(&config, &handlers),
            links: Some(layout.layer_links()),
            ..StoreOptions::default()
        };
        if let Some(bytes) = config.images.keep_free {
            options.limits.keep_free = bytes;
        }
        let images = ImageStore::open(layout.images(), options)?;
        let engine = Self {
            layout,
            handlers: ArcSwap::from_pointee(handlers),
            images,
            host: berth_oci::Host::detect(),
            apparmor: AppArmor::default(),
            sandboxes: Registry::new("pod sandbox"),
            warm: Pool::default(),
            containers: Registry::new("container"),
            events: Events::default(),
            streaming,
            tasks,
            held: Held::default(),
            shutdown,
            tried: CancellationToken::new(),
            pod_cidr: RwLock::default(),
            config,
        };
        if matches!(engine.network(), Err(CniError::NoNetwork { .. })) {
            engine.write_default_network()?;
        }
        Ok(engine)
    }

    /// Waits for the trials of the start, so that nobody takes a handler for missing that only has not been seen to work
    /// yet. A gVisor that hangs is not waited for to its end.
    pub(crate) async fn trials(&self) {
        let _late = tokio::time::timeout(TRIALS, self.tried.cancelled()).await;
    }

    /// Puts another table in force, with the registries' settings that came with it.
    pub(crate) fn set_handlers(&self, table: HandlerTable) {
        self.images.set_hosts_dirs(hosts_dirs(&self.config, &table));
        self.handlers.store(Arc::new(table));
    }

    /// The pods' network, read anew each time: whoever configures it later need not restart us.
    pub(crate) fn network(&self) -> Result<Network, CniError> {
        let table = self.handlers.load();
        cni::current(&cni::conf_dirs(
            &self.config.cni,
            table.cni_conf_dir.as_deref(),
        ))
    }

    /// The plugins' directories.
    pub(crate) fn plugin_dirs(&self) -> Vec<PathBuf> {
        let table = self.handlers.load();
        table
            .cni_bin_dirs
            .iter()
            .chain(&self.config.cni.bin_dirs)
            .cloned()
            .collect()
    }

    pub(crate) fn write_default_network(&self) -> Result<(), CriError> {
        let cni = &self.config.cni;
        let Some(network) = &cni.default_network else {
            return Ok(());
        };
        let subnet = self
            .pod_cidr
            .read()
            .clone()
            .unwrap_or_else(|| network.subnet.clone());
        cni::write_default(&cni.default_conf_dir, network, &subnet, &cni.ipam_dir).map_err(
            CriError::io("write berth's network to", &cni.default_conf_dir),
        )
    }

    /// Gives berth's own network the node's pod CIDR; one that somebody else configured is not
    /// ours to change.
    pub(crate) fn set_pod_cidr(&self, cidr: &str) -> Result<(), CriError> {
        if !is_subnets(cidr) {
            return Err(CriError::Invalid(format!(
                "pod CIDR {cidr:?} is no list of subnets"
            )));
        }
        *self.pod_cidr.write() = Some(cidr.to_owned());
        if self.own_network().is_some() {
            self.write_default_network()
        } else {
            Ok(())
        }
    }

    /// The pods' network, when it is the one that berth configured.
    fn own_network(&self) -> Option<Network> {
        let network = self.network().ok()?;
        network
            .file
            .starts_with(&self.config.cni.default_conf_dir)
            .then_some(network)
    }

    /// Sees to the masquerading of berth's own network. A node without iptables still runs pods;
    /// they reach no further than the node then.
    pub(crate) async fn keep_masquerade(&self) {
        if let Some(network) = self.own_network()
            && let Err(error) = cni::keep_masquerade(&network).await
        {
            tracing::warn!(
                network = network.name,
                "pods cannot reach beyond this node: {error}; install iptables, or configure a CNI network"
            );
        }
    }
}

/// Where registries' settings are: as the flags say, then as the handlers' file says, else where they usually are.
fn hosts_dirs(config: &Config, handlers: &HandlerTable) -> Vec<PathBuf> {
    let chosen: Vec<PathBuf> = config
        .images
        .hosts_dirs
        .iter()
        .chain(&handlers.hosts_dirs)
        .cloned()
        .collect();
    if chosen.is_empty() {
        StoreOptions::default().hosts_dirs
    } else {
        chosen
    }
}

/// Whether every part of a list of subnets is one: an address, a slash, and as many bits as the address has at most.
fn is_subnets(text: &str) -> bool {
    text.split(',').all(|subnet| {
        let Some((address, bits)) = subnet.trim().split_once('/') else {
            return false;
        };
        match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
            (Ok(address), Ok(bits)) => bits <= if address.is_ipv4() { 32 } else { 128 },
            _ => false,
        }
    })
}

/// Runs work that blocks for more than an instant.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CriError> + Send + 'static,
) -> Result<T, CriError> {
    tokio::task::spawn_blocking(work).await?
}

/// A new object's id: 64 hexadecimal digits, as containerd's.
pub(crate) fn new_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    nanoseconds(SystemTime::now())
}

pub(crate) fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) type Shared = Arc<Engine>;

#[cfg(test)]
mod tests {
    use super::is_subnets;

    #[test]
    fn subnets_of_both_families() {
        for (text, fine) in [
            ("10.0.0.0/16", true),
            ("10.0.0.0/16,fd00::/64", true),
            ("10.0.0.0", false),
            ("10.0.0.0/33", false),
            ("fd00::/129", false),
            ("10.0.0.0/16,", false),
            ("pods", false),
        ] {
            assert_eq!(is_subnets(text), fine, "{text}");
        }
    }
}
