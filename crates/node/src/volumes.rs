//! A pod's volumes on this machine: made before its containers, refreshed while it runs, removed
//! after it.

mod atomic;
pub(crate) mod claim;
mod dirs;
mod payload;
pub(crate) mod subpath;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ImageVolumeSource, Pod, Volume};

use crate::agent::Agent;
use crate::amount::QuantityError;
use crate::env::{EnvError, Room};
use crate::huge_pages::MediumError;
use crate::objects::LookupError;
use crate::own_dirs;

pub(crate) use dirs::remove_all;
pub(crate) use subpath::SubPathError;

/// Where a volume's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory or file of this machine.
    Path {
        path: PathBuf,
        /// The volume may never be written by containers.
        read_only: bool,
    },
    /// An image that the CRI runtime mounts by itself.
    Image { reference: String },
}

impl Source {
    pub(crate) fn read_only(&self) -> bool {
        match self {
            Source::Path { read_only, .. } => *read_only,
            Source::Image { .. } => true,
        }
    }
}

/// What the agent writes into all volumes of a pod takes at most so much of the disk, or of the memory. One key can be
/// asked for under any number of paths.
const WRITTEN_BYTES: usize = 64 << 20;

/// The pod's volumes by name.
pub(crate) type Mounted = BTreeMap<String, Source>;

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("{0}")]
    Value(#[from] EnvError),
    #[error("references non-existent {kind} key: {key}")]
    Key { kind: &'static str, key: String },
    #[error("hostPath type check failed: {path} is not {what}")]
    HostPath { path: String, what: &'static str },
    #[error(transparent)]
    Claim(#[from] claim::ClaimError),
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Medium(#[from] MediumError),
    #[error("{field} {value} is not one that files can have")]
    Number { field: &'static str, value: i64 },
    #[error("hostPath type {0:?} is not known to this node")]
    HostPathType(String),
    #[error(
        "the pod's config maps, secrets, projected and downward API volumes have more than {} MiB together",
        WRITTEN_BYTES >> 20
    )]
    TooLarge,
    #[error("the token of service account has no content")]
    NoToken,
    #[error("the volume's kind {0:?} is not supported by this node")]
    Unsupported(&'static str),
    #[error("image {image:?} cannot be had: {reason}")]
    Image { image: String, reason: String },
    #[error("the path {0:?} in a volume must be relative and without '..'")]
    BadPath(String),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { path, source }
}

/// A volume that failed, by name.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
pub(crate) struct MountError {
    pub(crate) volume: String,
    pub(crate) source: VolumeError,
}

/// Makes every volume of the pod, or says which one cannot be made.
pub(crate) async fn mount(
    agent: &Agent,
    pod: &Pod,
    pod_ips: &[String],
) -> Result<Mounted, MountError> {
    let mut mounted = Mounted::new();
    let mut room = Room::of(WRITTEN_BYTES);
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let source = one(agent, pod, volume, pod_ips, &mut room, Duration::ZERO)
            .await
            .map_err(|source| MountError {
                volume: volume.name.clone(),
                source,
            })?;
        mounted.insert(volume.name.clone(), source);
    }
    Ok(mounted)
}

/// Writes what changed in config maps, secrets, tokens and fields since they were mounted. Config maps may be as old as `age`.
pub(crate) async fn refresh(
    agent: &Agent,
    pod: &Pod,
    pod_ips: &[String],
    age: Duration,
) -> Result<(), MountError> {
    let mut room = Room::of(WRITTEN_BYTES);
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        if payload::is_written(volume) {
            one(agent, pod, volume, pod_ips, &mut room, age)
                .await
                .map_err(|source| MountError {
                    volume: volume.name.clone(),
                    source,
                })?;
        }
    }
    Ok(())
}

/// The group of the pod's volumes.
fn fs_group(pod: &Pod) -> Result<Option<u32>, VolumeError> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    id("fsGroup", context.and_then(|c| c.fs_group))
}

/// A user or group of files. One that files cannot have is refused: without it they would be open to others.
fn id(field: &'static str, value: Option<i64>) -> Result<Option<u32>, VolumeError> {
    let number =
        |value: i64| u32::try_from(value).map_err(|_| VolumeError::Number { field, value });
    value.map(number).transpose()
}

async fn one(
    agent: &Agent,
    pod: &Pod,
    volume: &Volume,
    pod_ips: &[String],
    room: &mut Room,
    age: Duration,
) -> Result<Source, VolumeError> {
    let place = |kind: &str| {
        agent
            .pod_dir(pod)
            .join("volumes")
            .join(format!("kubernetes.io~{kind}"))
            .join(&volume.name)
    };
    let group = fs_group(pod)?;
    if let Some(source) = &volume.empty_dir {
        let path = place("empty-dir");
        dirs::empty_dir(source, &path, group, agent.machine.memory_bytes, pod)?;
        return Ok(Source::Path {
            path,
            read_only: false,
        });
    }
    if let Some(source) = &volume.host_path {
        dirs::host_path(source)?;
        return Ok(Source::Path {
            path: PathBuf::from(&source.path),
            read_only: false,
        });
    }
    if let Some(source) = &volume.image {
        let reference = image(agent, pod, source).await?;
        return Ok(Source::Image { reference });
    }
    if let Some(name) = claim::claim_of(pod, volume) {
        let here = claim::Here {
            objects: &agent.objects,
            events: &agent.events,
            local_path: &agent.local_path,
            node_name: &agent.config.node_name,
            node: agent.node.borrow().clone(),
            pods: agent.config.root_dir.join("pods"),
            claiming: &agent.claiming,
        };
        return claim::mount(&here, pod, volume, name, group).await;
    }
    let Some((kind, in_memory)) = payload::kind(volume) else {
        return Err(VolumeError::Unsupported(unsupported(volume)));
    };
    let path = place(kind);
    let files = payload::payload(agent, pod, volume, pod_ips, group, room, age).await?;
    if in_memory {
        dirs::tmpfs(&path, None, dirs::Content::Secret)?;
    } else {
        own_dirs::make(&path).map_err(io(&path))?;
    }
    dirs::open_to_all(&path)?;
    atomic::write(&path, &files, group)?;
    Ok(Source::Path {
        path,
        read_only: true,
    })
}

/// The image of an image volume, pulled where its policy asks for it.
async fn image(
    agent: &Agent,
    pod: &Pod,
    source: &ImageVolumeSource,
) -> Result<String, VolumeError> {
    let name = source.reference.clone().unwrap_or_default();
    let always = match source.pull_policy.as_deref() {
        Some(policy) => policy == "Always",
        None => crate::images::with_tag(&name).ends_with(":latest"),
    };
    let fail = |e: tonic::Status| VolumeError::Image {
        image: name.clone(),
        reason: e.message().to_owned(),
    };
    if !always && let Some(found) = agent.images.present(&name, "").await.map_err(fail)? {
        return Ok(found.id);
    }
    if source.pull_policy.as_deref() == Some("Never") {
        return Err(VolumeError::Image {
            image: name.clone(),
            reason: "it is not present, and its pull policy is Never".to_owned(),
        });
    }
    let pulled = agent.images.pull(pod, &name, "", None).await;
    Ok(pulled.map_err(fail)?.id)
}

fn unsupported(v: &Volume) -> &'static str {
    let kinds = [
        (v.csi.is_some(), "csi"),
        (v.nfs.is_some(), "nfs"),
        (v.iscsi.is_some(), "iscsi"),
        (v.fc.is_some(), "fc"),
        (v.flex_volume.is_some(), "flexVolume"),
        (v.git_repo.is_some(), "gitRepo"),
        (v.cephfs.is_some(), "cephfs"),
        (v.rbd.is_some(), "rbd"),
        (v.glusterfs.is_some(), "glusterfs"),
        (v.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (v.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (v.azure_disk.is_some(), "azureDisk"),
        (v.azure_file.is_some(), "azureFile"),
    ];
    kinds
        .iter()
        .find(|(there, _)| *there)
        .map_or("unknown", |(_, name)| name)
}
