//! User ids of the machine for pods with a user namespace of their own (`hostUsers: false`, KEP-127).
//!
//! Each such pod has 65536 ids that no other pod has, noted in its directory in the stock kubelet's form, so that a
//! restart of the agent, or another agent in its place, gives them to nobody else. The first 65536 are the machine's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{IdMapping, NamespaceMode, UserNamespace};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::own_dirs;

/// How many ids a pod has (KEP-127).
const LENGTH: u32 = 1 << 16;
/// The note in a pod's directory.
const FILE: &str = "userns";

/// Why a pod has no ids.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    #[error("all ranges of user ids are taken by other pods' user namespaces")]
    Exhausted,
    #[error("{} is not understood ({reason}): remove it when no process of the pod runs", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("{} is missing, so it is not known which user ids the pod has", path.display())]
    Missing { path: PathBuf },
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// A pod's ids on this machine: `first` is the pod's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    first: u32,
    length: u32,
}

impl IdRange {
    /// As the CRI has it in `Mount` and `UserNamespace`; alike for users and groups.
    pub(crate) fn mappings(self) -> Vec<IdMapping> {
        vec![IdMapping {
            host_id: self.first,
            container_id: 0,
            length: self.length,
        }]
    }

    pub(crate) fn namespace(self) -> UserNamespace {
        UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: self.mappings(),
            gids: self.mappings(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    uid_mappings: Vec<NotedMapping>,
    gid_mappings: Vec<NotedMapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NotedMapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// Gives out the ids of this machine.
#[derive(Debug)]
pub(crate) struct Users {
    /// Where the pods' directories are.
    pods: PathBuf,
    /// Held while a range is chosen and noted.
    choosing: Mutex<()>,
}

impl Users {
    pub(crate) fn new(pods: PathBuf) -> Self {
        Self {
            pods,
            choosing: Mutex::default(),
        }
    }

    /// Gives the pod its ids, the same ones each time; nothing to a pod that has the machine's.
    pub(crate) fn assign(&self, pod: &Pod) -> Result<(), UsersError> {
        if !wants_own(pod) {
            return Ok(());
        }
        let dir = self.dir(pod);
        let _choosing = self.choosing.lock();
        if read(&dir)?.is_some() {
            return Ok(());
        }
        let first = free(&self.taken()?).ok_or(UsersError::Exhausted)?;
        write(&dir, first)
    }

    /// The ids that were assigned to the pod; `None` for one that has the machine's.
    ///
    /// # Errors
    /// When the pod has ids of its own and their record cannot be read: it must not get the machine's then.
    pub(crate) fn of(&self, pod: &Pod) -> Result<Option<IdRange>, UsersError> {
        if !wants_own(pod) {
            return Ok(None);
        }
        let dir = self.dir(pod);
        match read(&dir)? {
            Some(range) => Ok(Some(range)),
            None => Err(UsersError::Missing {
                path: dir.join(FILE),
            }),
        }
    }

    fn dir(&self, pod: &Pod) -> PathBuf {
        self.pods
            .join(pod.metadata.uid.as_deref().unwrap_or("unknown"))
    }

    /// The first ids of all pods that have some, those included that are about to be forgotten.
    fn taken(&self) -> Result<BTreeSet<u32>, UsersError> {
        let failed = |source| UsersError::Io {
            verb: "read",
            path: self.pods.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut taken = BTreeSet::new();
        for entry in entries {
            let range = read(&entry.map_err(failed)?.path())?;
            taken.extend(range.into_iter().flat_map(|range| {
                (range.first / LENGTH..=range.first.saturating_add(range.length - 1) / LENGTH)
                    .map(|index| index * LENGTH)
            }));
        }
        Ok(taken)
    }
}

/// Whether the pod asks for a user namespace of its own.
pub(crate) fn wants_own(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false)
}

/// The lowest range that nobody has.
fn free(taken: &BTreeSet<u32>) -> Option<u32> {
    (1..=u32::MAX / LENGTH)
        .map(|index| index * LENGTH)
        .find(|first| !taken.contains(first))
}

fn read(dir: &Path) -> Result<Option<IdRange>, UsersError> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(source) => {
            return Err(UsersError::Io {
                verb: "read",
                path,
                source,
            });
        }
    };
    let wrong = |reason: String| UsersError::Record {
        path: path.clone(),
        reason,
    };
    let note: Note = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    range(&note)
        .map(Some)
        .map_err(|reason| wrong(reason.to_owned()))
}

/// The one range of a record. One that would give a pod the machine's ids, or some of them, is refused.
fn range(note: &Note) -> Result<IdRange, &'static str> {
    let ([user], [group]) = (note.uid_mappings.as_slice(), note.gid_mappings.as_slice()) else {
        return Err("it does not have one mapping for users and one for groups");
    };
    if user != group {
        return Err("its mappings of users and groups differ");
    }
    if user.container_id != 0 || user.length == 0 {
        return Err("its mapping does not begin with the pod's root, or is empty");
    }
    if user.host_id < LENGTH {
        return Err("it maps to the machine's own ids");
    }
    if user.host_id.checked_add(user.length - 1).is_none() {
        return Err("its mapping goes beyond the last id");
    }
    Ok(IdRange {
        first: user.host_id,
        length: user.length,
    })
}

fn write(dir: &Path, first: u32) -> Result<(), UsersError> {
    let mapping = NotedMapping {
        host_id: first,
        container_id: 0,
        length: LENGTH,
    };
    let note = Note {
        uid_mappings: vec![mapping],
        gid_mappings: vec![mapping],
    };
    let path = dir.join(FILE);
    let failed = |source| UsersError::Io {
        verb: "write",
        path: path.clone(),
        source,
    };
    let text = serde_json::to_vec(&note).map_err(|error| failed(error.into()))?;
    own_dirs::make(dir).map_err(failed)?;
    // Whole or not at all: half a note would hold up every pod that wants ids.
    let temporary = dir.join(".userns");
    fs::write(&temporary, text).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;

    fn pod(name: &str, host_users: Option<bool>) -> Pod {
        let mut pod = PodBuilder::new(name).build();
        pod.spec.as_mut().unwrap().host_users = host_users;
        pod
    }

    #[test]
    fn each_pod_has_ids_of_its_own_until_its_directory_goes() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::new(dir.path().join("pods"));
        let (a, b, c) = (
            pod("a", Some(false)),
            pod("b", Some(false)),
            pod("c", Some(false)),
        );
        for pod in [&a, &b, &a] {
            users.assign(pod).unwrap();
        }
        let first = |pod: &Pod| users.of(pod).unwrap().unwrap().mappings()[0].host_id;
        assert_eq!((first(&a), first(&b)), (65536, 131_072));
        assert!(matches!(users.of(&c), Err(UsersError::Missing { .. })));
        fs::remove_dir_all(dir.path().join("pods/uid-a")).unwrap();
        // Another agent on the same directory.
        let users = Users::new(dir.path().join("pods"));
        users.assign(&c).unwrap();
        assert_eq!(users.of(&c).unwrap().unwrap().mappings()[0].host_id, 65536);
        assert_eq!(users.of(&b).unwrap().unwrap().mappings()[0].length, LENGTH);
    }

    #[test]
    fn pods_with_the_machines_users_get_none() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::new(dir.path().to_owned());
        for host_users in [None, Some(true)] {
            let pod = pod("a", host_users);
            users.assign(&pod).unwrap();
            assert_eq!(users.of(&pod).unwrap(), None);
        }
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_kubelets_note_is_kept_and_a_broken_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::new(dir.path().to_owned());
        let place = dir.path().join("uid-a");
        fs::create_dir(&place).unwrap();
        let mapping = r#"[{"hostId":65536,"containerId":0,"length":131072}]"#;
        let note = format!(r#"{{"uidMappings":{mapping},"gidMappings":{mapping}}}"#);
        fs::write(place.join(FILE), note).unwrap();
        let (a, b) = (pod("a", Some(false)), pod("b", Some(false)));
        users.assign(&a).unwrap();
        assert_eq!(users.of(&a).unwrap().unwrap().mappings()[0].length, 131_072);
        // Both ranges that it spans are taken.
        users.assign(&b).unwrap();
        assert_eq!(
            users.of(&b).unwrap().unwrap().mappings()[0].host_id,
            3 * LENGTH
        );
        fs::write(place.join(FILE), "{").unwrap();
        let error = users.assign(&pod("c", Some(false))).unwrap_err();
        assert!(matches!(error, UsersError::Record { .. }), "{error}");
    }

    #[test]
    fn a_record_that_cannot_be_read_never_means_the_machines_ids() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::new(dir.path().to_owned());
        let (place, pod) = (dir.path().join("uid-a"), pod("a", Some(false)));
        fs::create_dir(&place).unwrap();
        let record = |users: &str, groups: &str| {
            format!(r#"{{"uidMappings":[{users}],"gidMappings":[{groups}]}}"#)
        };
        let good = r#"{"hostId":65536,"containerId":0,"length":65536}"#;
        for text in [
            String::new(),
            "{".to_owned(),
            record("", ""),
            record(good, ""),
            record(good, r#"{"hostId":131072,"containerId":0,"length":65536}"#),
            record(&format!("{good},{good}"), good),
            record(&good.replace("65536,", "0,"), &good.replace("65536,", "0,")),
            record(&good.replace("65536}", "0}"), &good.replace("65536}", "0}")),
        ] {
            fs::write(place.join(FILE), &text).unwrap();
            assert!(users.of(&pod).is_err(), "{text}");
            assert!(users.assign(&pod).is_err(), "{text}");
        }
        fs::remove_file(place.join(FILE)).unwrap();
        fs::create_dir(place.join(FILE)).unwrap();
        let error = users.of(&pod).unwrap_err();
        assert!(matches!(error, UsersError::Io { .. }), "{error}");
        fs::remove_dir(place.join(FILE)).unwrap();
        fs::write(place.join(FILE), record(good, good)).unwrap();
        assert!(users.of(&pod).unwrap().is_some());
    }

    #[test]
    fn the_last_range_ends_with_the_last_id() {
        let all: BTreeSet<u32> = (1..u32::MAX / LENGTH).map(|index| index * LENGTH).collect();
        assert_eq!(free(&all), Some(u32::MAX - LENGTH + 1));
        let mut all = all;
        all.insert(u32::MAX - LENGTH + 1);
        assert_eq!(free(&all), None);
    }
}
