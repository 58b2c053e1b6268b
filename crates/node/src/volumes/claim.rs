//! Volumes of claims: the claim is the pod's namespace's, the volume is bound to that very claim, and both sides say so. A claim
//! alone names any volume that its creator likes.
//!
//! Which pod of this node has which claim is noted in a file beside the pod's other volumes
//! (`volumes/kubernetes.io~claim/VOLUME`), so that it is known whatever ends in between.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_core::local_path;
use berth_core::meta::controller_of;
use berth_placement::claims::{mode_of, reaches, volume_name};
use berth_supervise::unblock;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod, Volume,
};
use parking_lot::Mutex;

use super::{Source, VolumeError, dirs, io};
use crate::events::Recorder;
use crate::local_path::{LocalPath, LocalPathError};
use crate::objects::Objects;
use crate::own_dirs;

const ONE_POD: &str = "ReadWriteOncePod";
const NOTES: &str = "kubernetes.io~claim";
/// Stands in a note while the volume's files are not the pod's group's yet.
const PENDING: &str = "pending";

/// Why a pod does not get the volume of a claim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(
        "PVC {claim:?} is not bound (phase {phase}): kubectl describe pvc says what it waits for"
    )]
    Unbound { claim: String, phase: String },
    #[error("PVC {0:?} is being deleted")]
    Deleted(String),
    #[error("PVC {claim:?} was not created for pod {pod:?} (pod is not owner)")]
    NotOwner { claim: String, pod: String },
    #[error(
        "volume {volume:?} is not bound to PVC {claim:?} but to another claim, or to an older one of this name"
    )]
    Misbound { volume: String, claim: String },
    #[error(
        "PVC {0:?} was deleted and made again since this pod has its volume: delete the pod, and the next one gets the new volume"
    )]
    Replaced(String),
    #[error("PVC {0:?} uses the ReadWriteOncePod access mode and is already in use by another pod")]
    InUse(String),
    #[error("volume {0:?} has volumeMode Block, which this node does not support: use Filesystem")]
    Block(String),
    #[error("volume {0:?} has mount options, which directories cannot have")]
    Options(String),
    #[error("volume {volume:?} cannot be reached from this node: its node affinity does not match")]
    Elsewhere { volume: String },
    #[error("volume {volume:?}: {why}")]
    Foreign { volume: String, why: String },
    #[error("volume {volume:?} is of kind {kind}, which this node does not support")]
    Kind { volume: String, kind: String },
    #[error("volume {volume:?}: {path:?} is not a directory")]
    NotDirectory { volume: String, path: String },
    #[error(transparent)]
    LocalPath(#[from] LocalPathError),
}

/// The name of the claim of a volume, and whether it is made for the pod.
pub(super) fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some((format!("{pod}-{}", volume.name), true))
}

/// What this node has for claims.
pub(super) struct Here<'a> {
    pub(super) objects: &'a Objects,
    pub(super) events: &'a Recorder,
    pub(super) local_path: &'a LocalPath,
    pub(super) node_name: &'a str,
    /// The Node object, once it is there.
    pub(super) node: Option<Arc<Node>>,
    /// The directories of all pods.
    pub(super) pods: PathBuf,
    /// Held while it is noted which pod has a claim.
    pub(super) claiming: &'a Mutex<()>,
}

/// Makes the claim's volume the pod's.
pub(super) async fn mount(
    here: &Here<'_>,
    pod: &Pod,
    volume: &Volume,
    (name, made): (String, bool),
    group: Option<u32>,
) -> Result<Source, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claim = here.objects.claim(namespace, &name).await?;
    let volume_name = bound_volume(pod, &claim, made)?;
    let object = here.objects.volume(&volume_name).await?;
    check(&claim, &object)?;
    let read_only = volume
        .persistent_volume_claim
        .as_ref()
        .is_some_and(|source| source.read_only == Some(true));
    let found = find(here, &object).inspect_err(|error| {
        // Its owner looks at the claim, and it concerns whichever pod comes next.
        if let ClaimError::LocalPath(_) | ClaimError::NotDirectory { .. } = error {
            here.events.claim(&claim, "FailedMount", error.to_string());
        }
    })?;
    let notes = Notes {
        pods: here.pods.clone(),
    };
    let note = {
        let _one_at_a_time = here.claiming.lock();
        notes.take(&claim, pod, volume)?
    };
    match found {
        Found::Host(source) => dirs::host_path(&source)?,
        Found::Directory if note.is_first && !read_only => {
            if let Some(group) = group {
                let path = path_of(&object);
                let on_root = is_on_root_mismatch(pod);
                unblock(move || give(&path, group, on_root)).await?;
            }
        }
        Found::Directory => {}
    }
    if note.is_pending {
        notes.settle(&claim, pod, volume)?;
    }
    Ok(Source::Path {
        path: path_of(&object),
        read_only,
    })
}

/// The volume that the claim has.
fn bound_volume(
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    made: bool,
) -> Result<String, ClaimError> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let owner = controller_of(&claim.metadata).map(|owner| owner.uid.as_str());
    if made && owner != pod.metadata.uid.as_deref() {
        let pod = pod.metadata.name.clone().unwrap_or_default();
        return Err(ClaimError::NotOwner { claim: name, pod });
    }
    let status = claim.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    match (phase, volume_name(claim)) {
        (Some("Bound"), Some(volume)) => Ok(volume.to_owned()),
        (phase, _) => Err(ClaimError::Unbound {
            claim: name,
            phase: phase.unwrap_or_default().to_owned(),
        }),
    }
}

/// Whether the volume is this claim's, and one that this node can give to a pod.
fn check(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), ClaimError> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let none = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&none);
    let owner = spec.claim_ref.as_ref();
    let is_owner = owner.is_some_and(|owner| {
        owner.uid.is_some()
            && owner.uid == claim.metadata.uid
            && owner.namespace == claim.metadata.namespace
            && owner.name == claim.metadata.name
    });
    if !is_owner {
        return Err(ClaimError::Misbound {
            volume: name,
            claim: claim.metadata.name.clone().unwrap_or_default(),
        });
    }
    if mode_of(spec.volume_mode.as_deref()) != "Filesystem" {
        return Err(ClaimError::Block(name));
    }
    if spec.mount_options.iter().flatten().next().is_some() {
        return Err(ClaimError::Options(name));
    }
    Ok(())
}

/// What a volume is.
enum Found {
    Host(k8s_openapi::api::core::v1::HostPathVolumeSource),
    Directory,
}

fn path_of(volume: &PersistentVolume) -> PathBuf {
    let spec = volume.spec.as_ref();
    let local = spec.and_then(|s| s.local.as_ref()).map(|s| &s.path);
    let host = spec.and_then(|s| s.host_path.as_ref()).map(|s| &s.path);
    PathBuf::from(local.or(host).map_or("", String::as_str))
}

fn find(here: &Here<'_>, volume: &PersistentVolume) -> Result<Found, ClaimError> {
    let name = || volume.metadata.name.clone().unwrap_or_default();
    if let Some(node) = here.node.as_deref()
        && !reaches(volume, node)
    {
        return Err(ClaimError::Elsewhere { volume: name() });
    }
    let none = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&none);
    if local_path::is_ours(volume) {
        let root = here.local_path.root();
        let directory = local_path::directory(volume, here.node_name, root);
        let directory = directory.map_err(|why| ClaimError::Foreign {
            volume: name(),
            why,
        })?;
        here.local_path.find(directory)?;
        return Ok(Found::Directory);
    }
    if let Some(local) = &spec.local {
        return match fs::metadata(&local.path) {
            Ok(meta) if meta.is_dir() => Ok(Found::Directory),
            Ok(_) | Err(_) => Err(ClaimError::NotDirectory {
                volume: name(),
                path: local.path.clone(),
            }),
        };
    }
    if let Some(host) = &spec.host_path {
        return Ok(Found::Host(host.clone()));
    }
    let kind = spec.csi.as_ref().map(|csi| format!("csi ({})", csi.driver));
    Err(ClaimError::Kind {
        volume: name(),
        kind: kind.unwrap_or_else(|| "other than hostPath and local".to_owned()),
    })
}

fn is_on_root_mismatch(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
    policy == Some("OnRootMismatch")
}

/// Gives the volume's files to the pod's group; with `on_root` only where the directory itself is not the group's.
fn give(path: &Path, group: u32, on_root: bool) -> Result<(), VolumeError> {
    let meta = fs::symlink_metadata(path).map_err(io(path))?;
    if on_root && meta.gid() == group && meta.mode() & 0o2770 == 0o2770 {
        return Ok(());
    }
    berth_tree::give_to_group(path, group).map_err(io(path))
}

/// The notes of all pods.
struct Notes {
    pods: PathBuf,
}

/// What was noted.
struct Taken {
    /// Something is left to do for the pod.
    is_pending: bool,
    /// No other pod of this node has the claim, and this one had not either.
    is_first: bool,
}

impl Notes {
    fn dir(&self, pod_uid: &str) -> PathBuf {
        self.pods.join(pod_uid).join("volumes").join(NOTES)
    }

    /// The UIDs of pods that have the claim with this UID. One question for a pod, however many volumes it has: pods choose that.
    fn users(&self, claim_uid: &str) -> io::Result<Vec<String>> {
        let mut users = Vec::new();
        for pod in fs::read_dir(&self.pods)? {
            let pod = pod?.file_name();
            let Some(pod) = pod.to_str() else { continue };
            if self.dir(pod).join(mark(claim_uid)).try_exists()? {
                users.push(pod.to_owned());
            }
        }
        Ok(users)
    }

    /// Notes that the pod has the claim, if it may.
    fn take(
        &self,
        claim: &PersistentVolumeClaim,
        pod: &Pod,
        volume: &Volume,
    ) -> Result<Taken, VolumeError> {
        let name = || claim.metadata.name.clone().unwrap_or_default();
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let pod_uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let dir = self.dir(pod_uid);
        let place = dir.join(&volume.name);
        let before = read(&place).map_err(io(&place))?;
        if before.as_ref().is_some_and(|(noted, _)| noted != uid) {
            return Err(ClaimError::Replaced(name()).into());
        }
        if before.is_none() && claim.metadata.deletion_timestamp.is_some() {
            return Err(ClaimError::Deleted(name()).into());
        }
        let mut users = self.users(uid).map_err(io(&self.pods))?;
        users.retain(|user| user != pod_uid);
        let spec = claim.spec.as_ref();
        let modes = spec.and_then(|spec| spec.access_modes.as_deref());
        let exclusive = modes.unwrap_or_default().iter().any(|m| m == ONE_POD);
        if exclusive && !users.is_empty() {
            return Err(ClaimError::InUse(name()).into());
        }
        let is_pending = before.as_ref().is_none_or(|(_, pending)| *pending);
        if before.is_none() {
            write(&dir, &mark(uid), "")?;
            write(&dir, &volume.name, &format!("{uid} {PENDING}"))?;
        }
        Ok(Taken {
            is_pending,
            is_first: is_pending && users.is_empty(),
        })
    }

    /// Nothing is left to do for the pod.
    fn settle(
        &self,
        claim: &PersistentVolumeClaim,
        pod: &Pod,
        volume: &Volume,
    ) -> Result<(), VolumeError> {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let dir = self.dir(pod.metadata.uid.as_deref().unwrap_or_default());
        write(&dir, &volume.name, uid)
    }
}

/// The name of a file that says that a pod has a claim, beside those named after its volumes.
fn mark(claim_uid: &str) -> String {
    // No volume has such a name.
    format!("@{claim_uid}")
}

/// A note: the claim's UID, and whether something is left to do. Nothing where there is none.
fn read(place: &Path) -> io::Result<Option<(String, bool)>> {
    let text = match fs::read_to_string(place) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut words = text.split_whitespace();
    let uid = words.next().map(str::to_owned);
    Ok(uid.map(|uid| (uid, words.next() == Some(PENDING))))
}

/// Whole or not at all.
fn write(dir: &Path, name: &str, text: &str) -> Result<(), VolumeError> {
    own_dirs::make(dir).map_err(io(dir))?;
    let (fresh, place) = (dir.join(format!(".{name}")), dir.join(name));
    fs::write(&fresh, text).map_err(io(&fresh))?;
    fs::rename(&fresh, &place).map_err(io(&place))
}

/// A pod of this node, by its UID, that has the claim of the volume; `pods` has the directories of all. What can't be read keeps the
/// volume as well.
pub(crate) fn find_user(pods: PathBuf, volume: &PersistentVolume) -> Option<String> {
    let spec = volume.spec.as_ref();
    let owner = spec.and_then(|spec| spec.claim_ref.as_ref());
    let uid = owner.and_then(|owner| owner.uid.as_deref())?;
    match (Notes { pods }).users(uid) {
        Ok(users) => users.into_iter().next(),
        Err(error) => Some(format!("(unknown: {error})")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn claim(uid: &str, modes: &[&str]) -> PersistentVolumeClaim {
        from_value(
            json!({"metadata": {"namespace": "n", "name": "c", "uid": uid},
            "spec": {"accessModes": modes, "volumeName": "v"}, "status": {"phase": "Bound"}}),
        )
        .unwrap()
    }

    fn volume(owner: Value, more: Value) -> PersistentVolume {
        let mut spec = json!({"claimRef": owner, "hostPath": {"path": "/x"}});
        let more = more.as_object().cloned().unwrap_or_default();
        spec.as_object_mut().unwrap().extend(more);
        from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap()
    }

    fn pod(uid: &str) -> Pod {
        from_value(json!({"metadata": {"namespace": "n", "name": "p", "uid": uid}})).unwrap()
    }

    fn named(name: &str) -> Volume {
        from_value(json!({"name": name, "persistentVolumeClaim": {"claimName": "c"}})).unwrap()
    }

    #[test]
    fn a_volume_is_of_the_claim_that_it_names_and_of_no_other() {
        let claim = claim("1", &["ReadWriteOnce"]);
        let owner = |namespace: &str, name: &str, uid: Value| {
            volume(
                json!({"namespace": namespace, "name": name, "uid": uid}),
                json!({}),
            )
        };
        assert!(check(&claim, &owner("n", "c", json!("1"))).is_ok());
        for other in [
            owner("m", "c", json!("1")),
            owner("n", "d", json!("1")),
            owner("n", "c", json!("2")),
            owner("n", "c", json!(null)),
            owner("n", "c", json!("")),
            volume(json!(null), json!({})),
        ] {
            let refused = check(&claim, &other);
            assert!(
                matches!(refused, Err(ClaimError::Misbound { .. })),
                "{other:?}"
            );
        }
        let own = json!({"namespace": "n", "name": "c", "uid": "1"});
        let block = volume(own.clone(), json!({"volumeMode": "Block"}));
        assert!(matches!(check(&claim, &block), Err(ClaimError::Block(_))));
        let options = volume(own, json!({"mountOptions": ["suid"]}));
        assert!(matches!(
            check(&claim, &options),
            Err(ClaimError::Options(_))
        ));
    }

    #[test]
    fn a_claim_that_is_not_bound_or_not_the_pods_has_no_volume() {
        let bound = claim("1", &[]);
        assert_eq!(bound_volume(&pod("u"), &bound, false).unwrap(), "v");
        let refused = bound_volume(&pod("u"), &bound, true);
        assert!(matches!(refused, Err(ClaimError::NotOwner { .. })));
        let mut own = bound.clone();
        own.metadata.owner_references = from_value(json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}])).unwrap();
        assert!(bound_volume(&pod("u"), &own, true).is_ok());
        assert!(bound_volume(&pod("w"), &own, true).is_err());
        for phase in ["Pending", "Lost", ""] {
            let mut other = bound.clone();
            other.status.as_mut().unwrap().phase = Some(phase.to_owned());
            let refused = bound_volume(&pod("u"), &other, false);
            assert!(
                matches!(refused, Err(ClaimError::Unbound { .. })),
                "{phase}"
            );
        }
    }

    #[test]
    fn notes_say_who_has_a_claim_whatever_ends_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let notes = || Notes {
            pods: dir.path().to_owned(),
        };
        let (once, shared) = (claim("1", &[ONE_POD]), claim("2", &["ReadWriteOnce"]));
        let first = notes().take(&once, &pod("a"), &named("v")).unwrap();
        assert!(first.is_first);
        // Killed before it was settled: the same again, and nobody else.
        assert!(
            notes()
                .take(&once, &pod("a"), &named("v"))
                .unwrap()
                .is_first
        );
        let refused = notes().take(&once, &pod("b"), &named("v"));
        assert!(matches!(
            refused,
            Err(VolumeError::Claim(ClaimError::InUse(_)))
        ));
        notes().settle(&once, &pod("a"), &named("v")).unwrap();
        assert!(
            !notes()
                .take(&once, &pod("a"), &named("v"))
                .unwrap()
                .is_first
        );
        assert_eq!(notes().users("1").unwrap(), ["a"]);
        // A second volume of the pod, by the same claim, is no other pod.
        notes().take(&once, &pod("a"), &named("w")).unwrap();
        // Another claim of the name is not what the pod had.
        let refused = notes().take(&claim("9", &[]), &pod("a"), &named("v"));
        assert!(matches!(
            refused,
            Err(VolumeError::Claim(ClaimError::Replaced(_)))
        ));
        // When the pod's volumes are removed, the next one gets it.
        fs::remove_dir_all(dir.path().join("a/volumes")).unwrap();
        assert!(
            notes()
                .take(&once, &pod("b"), &named("v"))
                .unwrap()
                .is_first
        );
        assert!(
            notes()
                .take(&shared, &pod("a"), &named("s"))
                .unwrap()
                .is_first
        );
        assert!(
            !notes()
                .take(&shared, &pod("b"), &named("s"))
                .unwrap()
                .is_first
        );
        // A claim that goes is for those that have it.
        let mut goes = shared.clone();
        goes.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(notes().take(&goes, &pod("b"), &named("s")).is_ok());
        let refused = notes().take(&goes, &pod("c"), &named("s"));
        assert!(matches!(
            refused,
            Err(VolumeError::Claim(ClaimError::Deleted(_)))
        ));
    }
}
