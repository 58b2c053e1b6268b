//! What the shim itself needs of a bundle's `config.json`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use berth_oci::cgroup::{Cgroups, directory};
use serde::Deserialize;

use super::error::Error;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    annotations: HashMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
    #[serde(default, rename = "uidMappings")]
    uids: Vec<Mapping>,
    #[serde(rename = "cgroupsPath")]
    cgroup: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: Option<PathBuf>,
}

impl Config {
    pub(super) fn load(bundle: &Path) -> Result<Self, Error> {
        Self::find(bundle)?.ok_or_else(|| Error::File {
            what: "bundle's config",
            path: bundle.join("config.json"),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// `None` for a bundle without one. One that can't be read is an error: it says whose namespaces are joined.
    pub(super) fn find(bundle: &Path) -> Result<Option<Self>, Error> {
        let path = bundle.join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::File {
                    what: "bundle's config",
                    path,
                    source,
                });
            }
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| Error::Malformed {
                what: "config.json",
                source,
            })
    }

    /// The pod's id, when the container belongs to one.
    pub(super) fn sandbox_id(&self) -> Option<&str> {
        self.annotations
            .get(berth_oci::SANDBOX_ID)
            .map(String::as_str)
            .filter(|id| !id.is_empty())
    }

    /// Whether the container joins a sandbox that another container of the pod made.
    pub(super) fn joins_sandbox(&self) -> bool {
        self.is_of_type("container")
    }

    /// Whether it is what its pod's containers join.
    pub(super) fn is_sandbox(&self) -> bool {
        self.is_of_type("sandbox")
    }

    fn is_of_type(&self, wanted: &str) -> bool {
        self.annotations
            .get(berth_oci::CONTAINER_TYPE)
            .is_some_and(|t| t == wanted)
    }

    /// Removes the container's cgroup, should the runtime have left it; one that is in use stays.
    pub(super) fn remove_cgroup(&self) {
        let Some(path) = self.linux.as_ref().and_then(|linux| linux.cgroup.as_ref()) else {
            return;
        };
        let path = directory(path);
        let Ok(path) = path.strip_prefix("/") else {
            return;
        };
        let cgroups = Cgroups::detect();
        for mount in cgroups.mounts.values().chain(&cgroups.unified) {
            let _ = std::fs::remove_dir(mount.join(path));
        }
    }

    /// Who root of the container is, when it has a user namespace.
    pub(super) fn root(&self) -> Option<u32> {
        let maps = &self.linux.as_ref()?.uids;
        maps.iter().find(|m| m.container == 0).map(|m| m.host)
    }

    /// Whether the container is in a network namespace that is not the host's.
    pub(super) fn has_network_namespace(&self) -> bool {
        self.linux
            .iter()
            .flat_map(|l| &l.namespaces)
            .any(|n| n.kind == "network")
    }

    /// Whether the death of the first process ends all others, because it is the init of their PID namespace.
    pub(super) fn own_pid_namespace(&self) -> bool {
        self.linux
            .iter()
            .flat_map(|l| &l.namespaces)
            .any(|n| n.kind == "pid" && n.path.is_none())
    }
}
