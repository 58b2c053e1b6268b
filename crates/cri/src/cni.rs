//! Pod networks by CNI: which configuration counts, and ADD, CHECK and DEL over its plugins.
//!
//! The runtime's side of the CNI specification 1.0: a list's plugins run in order, each gets the
//! result of the one before, and what ADD returned is kept for CHECK and DEL.

mod config;
mod default;
mod error;
mod masquerade;
mod plugin;
mod port;
mod result;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use config::Network;
pub(crate) use default::write_default;
pub(crate) use error::CniError;
pub(crate) use masquerade::keep as keep_masquerade;
pub(crate) use port::mark as mark_port;
pub(crate) use result::addresses;

/// The pod's interface.
pub(crate) const INTERFACE: &str = "eth0";

/// The pod that a network is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    /// The pinned namespace.
    pub(crate) netns: PathBuf,
    /// Values by capability name: `portMappings`, `dns`, `bandwidth`, ...
    pub(crate) capabilities: BTreeMap<String, Value>,
}

/// What has to be known to check and to undo an ADD; kept with the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: Network,
    pub(crate) pod: Pod,
    /// The last plugin's result; null when ADD did not get so far.
    pub(crate) result: Value,
}

/// Joins the pod to the network. After an error everything that was done is undone.
pub(crate) async fn add(attachment: &mut Attachment, bin_dirs: &[PathBuf]) -> Result<(), CniError> {
    for index in 0..attachment.network.plugins.len() {
        match call(attachment, index, "ADD", bin_dirs).await {
            Ok(Some(result)) => attachment.result = result,
            Ok(None) => {}
            Err(error) => {
                if let Err(undo) = delete(attachment, bin_dirs).await {
                    tracing::warn!(pod = attachment.pod.id, %undo, "half a network could not be removed");
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Adds the pod's port mappings to a network that it joined without any. After an error the network is half there, until
/// [`delete`].
pub(crate) async fn add_ports(
    attachment: &mut Attachment,
    bin_dirs: &[PathBuf],
) -> Result<(), CniError> {
    let maps = |plugin: &Value| plugin.get("type").and_then(Value::as_str) == Some("portmap");
    for index in 0..attachment.network.plugins.len() {
        if attachment.network.plugins.get(index).is_some_and(maps)
            && let Some(result) = call(attachment, index, "ADD", bin_dirs).await?
        {
            attachment.result = result;
        }
    }
    Ok(())
}

/// Takes the pod off the network; a pod that is off already is fine. Every plugin is called, and
/// the first error is given.
pub(crate) async fn delete(attachment: &Attachment, bin_dirs: &[PathBuf]) -> Result<(), CniError> {
    let mut first = Ok(());
    for index in (0..attachment.network.plugins.len()).rev() {
        let done = call(attachment, index, "DEL", bin_dirs).await.map(|_| ());
        if first.is_ok() {
            first = done;
        }
    }
    first
}

/// Runs one plugin of the list; `None` when it has nothing to do.
async fn call(
    attachment: &Attachment,
    index: usize,
    command: &'static str,
    bin_dirs: &[PathBuf],
) -> Result<Option<Value>, CniError> {
    let (network, pod) = (&attachment.network, &attachment.pod);
    let Some(plugin) = network.plugins.get(index) else {
        return Ok(None);
    };
    if plugin::idle(plugin, pod) {
        return Ok(None);
    }
    let mut input = plugin.clone();
    if let Some(object) = input.as_object_mut() {
        object.insert("name".to_owned(), json!(network.name));
        object.insert("cniVersion".to_owned(), json!(network.cni_version));
        if !attachment.result.is_null() {
            object.insert("prevResult".to_owned(), attachment.result.clone());
        }
        let wanted = object.remove("capabilities");
        let runtime = plugin::runtime_config(wanted.as_ref(), pod);
        if !runtime.is_empty() {
            object.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
    }
    plugin::run(plugin, &input, network, pod, command, bin_dirs).await
}

/// The pods' network now: the first configuration of the first directory that has one.
pub(crate) fn current(dirs: &[PathBuf]) -> Result<Network, CniError> {
    for dir in dirs {
        if let Some(path) = config::first(dir) {
            return config::read(&path);
        }
    }
    Err(CniError::NoNetwork {
        dirs: dirs.to_vec(),
    })
}

/// Whether every plugin of a network is installed.
pub(crate) fn check_plugins(network: &Network, bin_dirs: &[PathBuf]) -> Result<(), CniError> {
    network
        .plugins
        .iter()
        .try_for_each(|plugin| plugin::find(plugin, network, bin_dirs).map(|_: PathBuf| ()))
}

/// The directories to look for configurations in, in order.
pub(crate) fn conf_dirs(config: &crate::CniConfig, imported: Option<&Path>) -> Vec<PathBuf> {
    imported
        .map(Path::to_owned)
        .into_iter()
        .chain(config.conf_dirs.iter().cloned())
        .chain([config.default_conf_dir.clone()])
        .collect()
}
