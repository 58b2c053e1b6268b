//! What stands on disk: the devices of each pod in its own directory, and the names of all resources of plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use berth_kubelet_api::device_plugin::ContainerAllocateResponse;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::own_dirs;

const FILE: &str = "devices.json";

/// The devices of one container of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allocated {
    /// The plugin's ids.
    pub(crate) ids: Vec<String>,
    /// The plugin wants to be told before each start of the container.
    pub(crate) pre_start: bool,
    /// What the plugin answered.
    pub(crate) answer: ContainerAllocateResponse,
}

/// The record of one pod: by container and resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PodDevices {
    pub(super) containers: BTreeMap<String, BTreeMap<String, Allocated>>,
}

/// Reads the records of all pods, and names those that are not understood.
pub(super) fn read_all(pods: &Path) -> (BTreeMap<String, PodDevices>, Vec<PathBuf>) {
    let (mut all, mut unreadable) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(pods).into_iter().flatten().flatten() {
        let path = entry.path().join(FILE);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        };
        match read {
            Ok(record) => {
                all.insert(entry.file_name().to_string_lossy().into_owned(), record);
            }
            Err(error) => {
                error!(path = %path.display(), %error, "the record of a pod's devices cannot be read; no devices are allocated while it is there");
                unreadable.push(path);
            }
        }
    }
    (all, unreadable)
}

/// Writes the record of a pod, whole or not at all, and so that it is there after a crash of the machine.
pub(super) fn write(pod_dir: &Path, record: &PodDevices) -> io::Result<()> {
    own_dirs::make(pod_dir)?;
    replace(&pod_dir.join(FILE), &serde_json::to_vec(record)?)
}

/// Removes it. One that stays holds devices that nobody has, and is removed with the pod's directory.
pub(super) fn remove(pod_dir: &Path) {
    let path = pod_dir.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            warn!(path = %path.display(), %error, "the record of a pod's devices is not removed");
        }
    }
}

/// The names of resources that plugins have had here; none when they cannot be read. Without them a resource whose
/// plugin is not back yet would be nobody's, and a pod that asks for it would run without a device.
pub(super) fn read_names(path: &Path) -> Option<BTreeSet<String>> {
    let read = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
    };
    read.inspect_err(|error| {
        error!(path = %path.display(), %error, "the names of device plugins' resources cannot be read; until the next start every extended resource is taken for a plugin's");
    })
    .ok()
}

/// Writes the names.
pub(super) fn write_names(path: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    replace(path, &serde_json::to_vec(names)?)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("part");
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_half_a_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let allocated = Allocated {
            ids: vec!["d1".to_owned()],
            pre_start: true,
            answer: ContainerAllocateResponse {
                envs: [("A".to_owned(), "b".to_owned())].into(),
                ..Default::default()
            },
        };
        let resources = BTreeMap::from([("v.com/gpu".to_owned(), allocated)]);
        let record = PodDevices {
            containers: [("c".to_owned(), resources)].into(),
        };
        write(&dir.path().join("u1"), &record).unwrap();
        let (all, unreadable) = read_all(dir.path());
        assert_eq!(all.get("u1"), Some(&record));
        assert!(unreadable.is_empty());
        let broken = dir.path().join("u2").join(FILE);
        fs::create_dir(dir.path().join("u2")).unwrap();
        fs::write(&broken, r#"{"containers": {"c""#).unwrap();
        let (all, unreadable) = read_all(dir.path());
        assert_eq!((all.len(), unreadable), (1, vec![broken]));
        remove(&dir.path().join("u1"));
        assert!(read_all(dir.path()).0.is_empty());
        let names = dir.path().join("names.json");
        let two = BTreeSet::from(["a.b/c".to_owned(), "d.e/f".to_owned()]);
        write_names(&names, &two).unwrap();
        assert_eq!(read_names(&names), Some(two));
        fs::write(&names, "[").unwrap();
        assert_eq!(read_names(&names), None);
    }
}
