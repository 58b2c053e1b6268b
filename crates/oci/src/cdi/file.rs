//! The vendors' files, in JSON or YAML.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One file: a kind of device and its members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

/// What a vendor wants changed. An edit that is not known here makes the file unusable, for a container without it is
/// not the one that the vendor describes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct ContainerEdits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
}

/// A node of the container. What a file does not say about it is that of the host's node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceNode {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<NodeKind>,
    /// 0 is a number that the file does not say.
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) permissions: Option<String>,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Types of nodes, by the letters of OCI's runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum NodeKind {
    #[serde(rename = "b")]
    Block,
    #[serde(rename = "c")]
    Character,
    #[serde(rename = "u")]
    Unbuffered,
    #[serde(rename = "p")]
    Fifo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
}

/// Reads a file; none when its name is not one of CDI's.
pub(super) fn read(path: &Path) -> Option<Result<File, String>> {
    let kind = path.extension()?.to_str()?;
    let text = |()| std::fs::read_to_string(path).map_err(|e| e.to_string());
    match kind {
        "json" => Some(text(()).and_then(|t| serde_json::from_str(&t).map_err(|e| e.to_string()))),
        "yaml" | "yml" => {
            Some(text(()).and_then(|t| serde_saphyr::from_str(&t).map_err(|e| e.to_string())))
        }
        _ => None,
    }
}
