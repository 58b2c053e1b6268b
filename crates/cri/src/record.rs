//! What is kept on disk of sandboxes and containers, so that a restart loses nothing.
//!
//! A record is one JSON file that is replaced whole. It is not synced: a killed server finds what
//! it wrote last; after a power cut all pods are gone anyway. One that can't be read is moved aside,
//! and what it stands for is held ([`crate::held`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{ContainerConfig, PodSandboxConfig};
use berth_shim::record::{self, RecordError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cni::Attachment;
use crate::error::{CriError, chain};
use crate::handlers::Inputs;
use crate::runtime::{PodRuntime, RootfsMounter};
use crate::sandbox::ShimProcesses;

/// A CRI message, kept in its wire form: it survives new fields in either direction.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wire<T>(pub(crate) T);

impl<T: prost::Message> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.0.encode_to_vec());
        serializer.serialize_str(&text)
    }
}

impl<'de, T: prost::Message + Default> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(text)
            .map_err(D::Error::custom)?;
        T::decode(bytes.as_slice())
            .map(Wire)
            .map_err(D::Error::custom)
    }
}

/// Where a sandbox is in its life.
///
/// ```text
/// Creating -> Ready -> NotReady -> (removed)
///     \______________/
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Being made; found at a start it is a leftover.
    Creating,
    Ready,
    NotReady,
}

/// What a sandbox has to do with those that wait for their pod ([`crate::warm`]).
///
/// ```text
/// Making -> Waiting -> Taken
/// ```
///
/// Until a taken one is whole its phase is `Creating`: what a killed server leaves of it is removed, also by a berth that
/// knows nothing of waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Warm {
    /// It was made for its pod.
    #[default]
    No,
    /// It is being booted for no pod yet.
    Making,
    /// It is booted, and no pod has it.
    Waiting,
    /// It waited, and is a pod's or becomes one's.
    Taken,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) phase: Phase,
    /// Nanoseconds since 1970.
    pub(crate) created_at: i64,
    pub(crate) config: Wire<PodSandboxConfig>,
    /// The handler's name as asked for; empty for the default.
    pub(crate) handler: String,
    pub(crate) runtime: PodRuntime,
    /// Whether there is a sandbox container (a pause process).
    pub(crate) pause: bool,
    /// Its pid on the host.
    pub(crate) pause_pid: u32,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) ips: Vec<IpAddr>,
    /// Everything outside the record has been given back.
    pub(crate) released: bool,
    /// What a gVisor sandbox uses by itself, in bytes; 0 until known.
    #[serde(default)]
    pub(crate) idle_memory: u64,
    /// For a gVisor sandbox.
    #[serde(default)]
    pub(crate) made_limits: MadeLimits,
    /// Another's shim and the processes that it had when it was last looked at.
    #[serde(default)]
    pub(crate) shim_processes: ShimProcesses,
    /// Another's shim died, or never got as far as to be asked to end: it may have left processes, mounts and directories.
    #[serde(default)]
    pub(crate) shim_lost: bool,
    /// Whether it waits, or has waited, for its pod.
    #[serde(default)]
    pub(crate) warm: Warm,
    /// The cgroup that it waited in, as in the spec that it was booted with. What the runtime starts for later containers
    /// begins there, and what it used while it waited stays charged to it.
    #[serde(default)]
    pub(crate) waited_in: Option<PathBuf>,
    /// The files of its handler that one which waits was booted from, as they were before it was.
    #[serde(default)]
    pub(crate) booted_from: Inputs,
    /// Of one that waited: its pod's cgroup has its limits and, but for what was started since, all its processes.
    #[serde(default)]
    pub(crate) placed: bool,
}

impl SandboxRecord {
    /// Whether the shim holds something of the sandbox itself: a sandbox container, or what its sandbox service makes.
    pub(crate) fn has_own_process(&self) -> bool {
        self.pause || self.runtime.sandbox_service
    }
}

/// Limits of a pod that are made of its containers'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeLimits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Microseconds in each tenth of a second.
    pub(crate) cpu_quota: Option<i64>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerPhase {
    Created,
    /// The shim was asked to start it; only the shim knows whether it did.
    Starting,
    Running,
    Exited(Ended),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) phase: ContainerPhase,
    pub(crate) created_at: i64,
    /// 0 until started.
    pub(crate) started_at: i64,
    /// Its shim was asked to start it, and nothing has shown since that no program of it has run. What an older berth was
    /// about to start may have run.
    #[serde(default = "perhaps")]
    pub(crate) asked: bool,
    /// The first process' pid on the host; 0 until started.
    pub(crate) pid: u32,
    pub(crate) config: Wire<ContainerConfig>,
    pub(crate) image_id: String,
    /// The image by name and digest (`docker.io/library/busybox@sha256:...`), as registries and scanners know it; empty for
    /// one that no registry has, and for a container of an older berth.
    #[serde(default)]
    pub(crate) image_digest: String,
    /// The image by name and tag; empty as above.
    #[serde(default)]
    pub(crate) image_tag: String,
    /// What of the image matters for stopping.
    pub(crate) stop_signal: String,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) user: UserRecord,
    /// The cgroup's path as in the spec.
    pub(crate) cgroup: PathBuf,
    /// Its shim has published that memory ran out.
    #[serde(default)]
    pub(crate) oom_killed: bool,
    /// Who mounts its root file system.
    #[serde(default)]
    pub(crate) rootfs: RootfsMounter,
}

fn perhaps() -> bool {
    true
}

/// Whom a container's process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The newest form of both records.
const VERSION: u64 = 1;

/// Replaces the record in `dir`.
pub(crate) fn save<T: Serialize>(dir: &Path, record: &T) -> Result<(), CriError> {
    Ok(record::save(&dir.join(FILE), VERSION, record)?)
}

/// What is in a folder that ought to have a record.
pub(crate) enum Found<T> {
    /// The record.
    Whole(Box<T>),
    /// Nothing: its making was cut short before anything else was made.
    Nothing(PathBuf),
    /// One that can't be read, which lies aside now.
    Unreadable {
        id: String,
        record: PathBuf,
        reason: String,
    },
}

/// All records below `dir`.
///
/// # Errors
/// When there may be some that can't be known of, or some of a newer form: a server without them would give back what
/// they stand for.
pub(crate) fn load<T: DeserializeOwned>(dir: &Path) -> Result<Vec<Found<T>>, CriError> {
    let failed = |error| CriError::io("read", dir)(error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut records = Vec::new();
    for entry in entries {
        records.push(load_one(&entry.map_err(failed)?.path())?);
    }
    Ok(records)
}

fn load_one<T: DeserializeOwned>(folder: &Path) -> Result<Found<T>, CriError> {
    let path = folder.join(FILE);
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    match record::load(&path, VERSION) {
        Ok(Some(record)) => Ok(Found::Whole(Box::new(record))),
        Ok(None) => {
            let aside = record::quarantined(&path);
            Ok(match aside.symlink_metadata() {
                Ok(_) => Found::Unreadable {
                    id: id.into_owned(),
                    record: aside,
                    reason: "an earlier server could not read it".to_owned(),
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Found::Nothing(folder.to_owned())
                }
                Err(error) => return Err(CriError::io("look at", aside)(error)),
            })
        }
        Err(error @ RecordError::Newer { .. }) => Err(error.into()),
        Err(error @ (RecordError::Malformed { .. } | RecordError::Io { .. })) => {
            let reason = chain(&error);
            let record = record::quarantine(&path).map_err(CriError::io("move aside", &path))?;
            Ok(Found::Unreadable {
                id: id.into_owned(),
                record,
                reason,
            })
        }
    }
}

const FILE: &str = "record.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Thing {
        count: u32,
    }

    fn kinds(dir: &Path) -> Vec<String> {
        let mut kinds: Vec<String> = load::<Thing>(dir)
            .unwrap()
            .into_iter()
            .map(|found| match found {
                Found::Whole(thing) => format!("whole {}", thing.count),
                Found::Nothing(folder) => {
                    format!("nothing {}", folder.file_name().unwrap().display())
                }
                Found::Unreadable { id, record, .. } => {
                    format!("unreadable {id} {}", record.file_name().unwrap().display())
                }
            })
            .collect();
        kinds.sort();
        kinds
    }

    #[test]
    fn unreadable_records_are_moved_aside_and_stay_so() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        save(&folder("good"), &Thing { count: 5 }).unwrap();
        folder("empty");
        let torn = folder("torn");
        std::fs::write(torn.join(FILE), r#"{"count":"#).unwrap();
        let expected = [
            "nothing empty",
            "unreadable torn record.json.unreadable",
            "whole 5",
        ];
        assert_eq!(kinds(dir.path()), expected);
        // The next start, too.
        assert_eq!(kinds(dir.path()), expected);
        let kept = std::fs::read_to_string(torn.join("record.json.unreadable")).unwrap();
        assert_eq!(kept, r#"{"count":"#);
    }

    #[test]
    fn a_newer_record_stops_the_start_and_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join(FILE);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, r#"{"version":2,"count":{"new":"form"}}"#).unwrap();
        let error = load::<Thing>(dir.path()).map(drop).unwrap_err();
        assert!(chain(&error).contains("newer berth"), "{error}");
        assert!(path.exists());
    }
}
