//! What is kept on disk of sandboxes and containers, so that a restart loses nothing.
//!
//! A record is one JSON file that is replaced whole. It is not synced: a killed server finds what
//! it wrote last; after a power cut all pods are gone anyway, and a torn record is dropped.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{ContainerConfig, PodSandboxConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cni::Attachment;
use crate::error::CriError;
use crate::runtime::PodRuntime;

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
    /// The first process' pid on the host; 0 until started.
    pub(crate) pid: u32,
    pub(crate) config: Wire<ContainerConfig>,
    pub(crate) image_id: String,
    /// What of the image matters for stopping.
    pub(crate) stop_signal: String,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) user: UserRecord,
    /// The cgroup's path as in the spec.
    pub(crate) cgroup: PathBuf,
}

/// Whom a container's process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// Replaces the record in `dir`.
pub(crate) fn save<T: Serialize>(dir: &Path, record: &T) -> Result<(), CriError> {
    let text = serde_json::to_vec(record)?;
    let temporary = dir.join(".record.json");
    std::fs::write(&temporary, text).map_err(CriError::io("write", &temporary))?;
    let path = dir.join(FILE);
    std::fs::rename(&temporary, &path).map_err(CriError::io("write", &path))
}

/// All records below `dir`; what can't be read is given as its folder.
pub(crate) fn load<T: for<'de> Deserialize<'de>>(
    dir: &Path,
) -> std::io::Result<Vec<Result<T, PathBuf>>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        let record = std::fs::read(folder.join(FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        records.push(record.ok_or(folder));
    }
    Ok(records)
}

const FILE: &str = "record.json";
