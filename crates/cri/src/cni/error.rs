//! Why a pod has no network.

use std::path::PathBuf;

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    #[error("no network is configured: no CNI configuration in {}", list(dirs))]
    NoNetwork { dirs: Vec<PathBuf> },
    #[error("CNI configuration {}: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    #[error("CNI plugin {plugin:?} (network {network:?}) is not in {}", list(dirs))]
    NoPlugin {
        plugin: String,
        network: String,
        dirs: Vec<PathBuf>,
    },
    #[error("CNI plugin {plugin:?} (network {network:?}) cannot be run")]
    Run {
        plugin: String,
        network: String,
        source: std::io::Error,
    },
    #[error("CNI plugin {plugin:?} (network {network:?}) {command} failed: {message}")]
    Plugin {
        plugin: String,
        network: String,
        command: &'static str,
        message: String,
    },
    #[error("CNI plugin {plugin:?} (network {network:?}) did not end within {seconds} s")]
    Timeout {
        plugin: String,
        network: String,
        seconds: u64,
    },
}

fn list(dirs: &[PathBuf]) -> String {
    let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    names.join(", ")
}
