//! What all RPCs share: settings, tables, the image store, and the objects in memory.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use berth_image::{ImageStore, StoreOptions};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::cni::{self, CniError, Network};
use crate::container::Container;
use crate::error::CriError;
use crate::events::Events;
use crate::handlers::HandlerTable;
use crate::layout::Layout;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::streaming::Streaming;

pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) handlers: ArcSwap<HandlerTable>,
    pub(crate) images: ImageStore,
    pub(crate) host: berth_oci::Host,
    pub(crate) sandboxes: Registry<Sandbox>,
    pub(crate) containers: Registry<Container>,
    pub(crate) events: Events,
    pub(crate) streaming: Streaming,
    /// Ends streams that have no end of their own.
    pub(crate) shutdown: CancellationToken,
    /// The pod CIDR from `UpdateRuntimeConfig`.
    pod_cidr: RwLock<Option<String>>,
}

impl Engine {
    /// Opens the directories. Blocks.
    pub(crate) fn open(
        config: Config,
        handlers: HandlerTable,
        streaming: Streaming,
        shutdown: CancellationToken,
    ) -> Result<Self, CriError> {
        let layout = Layout::new(&config);
        for dir in layout.all() {
            std::fs::create_dir_all(&dir).map_err(CriError::io("make", &dir))?;
        }
        let mut options = StoreOptions::default();
        let mut hosts_dirs = config.images.hosts_dirs.clone();
        hosts_dirs.extend(handlers.hosts_dirs.iter().cloned());
        if !hosts_dirs.is_empty() {
            options.hosts_dirs = hosts_dirs;
        }
        let images = ImageStore::open(layout.images(), options)?;
        let engine = Self {
            layout,
            handlers: ArcSwap::from_pointee(handlers),
            images,
            host: berth_oci::Host::detect(),
            sandboxes: Registry::new("pod sandbox"),
            containers: Registry::new("container"),
            events: Events::default(),
            streaming,
            shutdown,
            pod_cidr: RwLock::default(),
            config,
        };
        if matches!(engine.network(), Err(CniError::NoNetwork { .. })) {
            engine.write_default_network()?;
        }
        Ok(engine)
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
    pub(crate) fn plugin_dirs(&self) -> Vec<std::path::PathBuf> {
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
