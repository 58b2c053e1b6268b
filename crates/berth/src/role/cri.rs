//! `berth cri`: the container runtime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use berth_api::quantity::Quantity;
use berth_cri::{Config, DefaultNetwork, HandlerSource};

use crate::dirs::absolute;

/// Where berth's own configuration is looked for.
const OWN_CONFIG: &str = "/etc/berth/config.toml";

/// Flags that say where runtime handlers come from.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct HandlerArgs {
    /// Handlers from berth's own TOML [default: /etc/berth/config.toml where there is one, else what is installed]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Handlers from containerd's config.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) containerd_config: Option<PathBuf>,
    /// Handlers from CRI-O's crio.conf (and crio.conf.d beside it)
    #[arg(long, value_name = "FILE")]
    pub(crate) crio_config: Option<PathBuf>,
    /// Recognized only to say why it can't be used
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) docker_config: Option<PathBuf>,
}

impl HandlerArgs {
    /// The source that the flags name.
    #[must_use]
    pub(crate) fn source(&self) -> HandlerSource {
        if let Some(path) = &self.containerd_config {
            HandlerSource::Containerd(path.clone())
        } else if let Some(path) = &self.crio_config {
            HandlerSource::Crio(path.clone())
        } else if let Some(path) = &self.docker_config {
            HandlerSource::Docker(path.clone())
        } else if let Some(path) = &self.config {
            HandlerSource::Berth(path.clone())
        } else if Path::new(OWN_CONFIG).exists() {
            HandlerSource::Berth(OWN_CONFIG.into())
        } else {
            HandlerSource::BuiltIn
        }
    }
}

/// Flags of the pods' network.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NetworkArgs {
    /// Addresses of the pods on berth's own bridge, when no CNI network is configured
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Option<String>,
    /// Name of that bridge's interface
    #[arg(long, value_name = "NAME")]
    pub(crate) bridge: Option<String>,
    /// Directory with CNI network configurations (may be repeated) [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_dir: Vec<PathBuf>,
    /// Directory with CNI plugins (may be repeated) [default: /opt/cni/bin and /usr/lib/cni]
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
}

/// Flags of images.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ImageArgs {
    /// Directory with a folder per registry that holds containerd's hosts.toml: mirrors, certificates
    /// (may be repeated)
    #[arg(long, value_name = "DIR")]
    pub(crate) hosts_dir: Vec<PathBuf>,
    /// Bytes that pulls and imports leave free on the filesystem of the images, for the database and pods
    /// [default: 256Mi]
    #[arg(long, value_name = "QUANTITY", value_parser = bytes)]
    pub(crate) image_reserve: Option<u64>,
}

/// A quantity of bytes: `512Mi`, `2G`.
fn bytes(text: &str) -> Result<u64, String> {
    let quantity: Quantity = text.parse().map_err(|e| format!("{e}"))?;
    u64::try_from(quantity.value()).map_err(|_| "must not be negative".to_owned())
}

/// The runtime's settings for these directories and flags.
///
/// # Errors
/// When our own binary can't be found.
pub(crate) fn config(
    data: &Path,
    run: &Path,
    handlers: &HandlerArgs,
    network: &NetworkArgs,
    images: &ImageArgs,
    (bridge, pod_cidr): (&str, &str),
) -> anyhow::Result<Config> {
    let mut config = Config::new(&absolute(data), &absolute(run), shim_command()?);
    config.handlers = handlers.source();
    config.embedded_command = embedded_command()?;
    config.images.hosts_dirs.clone_from(&images.hosts_dir);
    config.images.keep_free = images.image_reserve;
    if !network.cni_conf_dir.is_empty() {
        config.cni.conf_dirs.clone_from(&network.cni_conf_dir);
    }
    if !network.cni_bin_dir.is_empty() {
        config.cni.bin_dirs.clone_from(&network.cni_bin_dir);
    }
    config.cni.default_network = Some(DefaultNetwork {
        name: bridge.to_owned(),
        bridge: network.bridge.clone().unwrap_or_else(|| bridge.to_owned()),
        subnet: network
            .pod_cidr
            .clone()
            .unwrap_or_else(|| pod_cidr.to_owned()),
    });
    Ok(config)
}

/// Whether somebody else has configured the pods' network, when the runtime starts.
#[must_use]
pub(crate) fn is_foreign_network(config: &Config) -> bool {
    let is_config = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conf" | "conflist" | "json"))
    };
    let dirs = config.cni.conf_dirs.iter();
    dirs.filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(Result::ok)
        .any(is_config)
}

/// How the OCI runtime inside this binary is called.
///
/// # Errors
/// When our own binary can't be found.
pub(crate) fn embedded_command() -> anyhow::Result<Vec<OsString>> {
    let own = std::env::current_exe().context("cannot find berth's own binary")?;
    Ok(vec![own.into_os_string(), berth_runtime::SUBCOMMAND.into()])
}

/// How the runtime starts `berth shim`.
///
/// # Errors
/// When our own binary can't be found.
fn shim_command() -> anyhow::Result<Vec<OsString>> {
    let own = std::env::current_exe().context("cannot find berth's own binary")?;
    Ok(vec![own.into_os_string(), "shim".into()])
}
