//! Volumes that are directories of one node, made for a claim: what the controller that asks for them, the node that makes and
//! removes them, and the API server that lets the node read them agree on.
//!
//! Only administrators write PersistentVolumes, and still no word of one is enough to remove a directory: see [`removable`].

use std::path::Path;

use k8s_openapi::api::core::v1::PersistentVolume;

/// The provisioner of classes whose volumes are such directories.
pub const PROVISIONER: &str = "berth.dev/local-path";
/// Who has made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The node that has the directory.
pub const NODE: &str = "node.berth.dev/local-path-node";
/// Keeps the volume until its directory is removed.
pub const FINALIZER: &str = "node.berth.dev/local-path";

const PREFIX: &str = "pvc-";
const UID_LENGTH: usize = 36;

/// The name of the volume of the claim with this UID, and of its directory. Nothing for what is no UID: it would become part of a path.
#[must_use]
pub fn volume_name(claim_uid: &str) -> Option<String> {
    let name = format!("{PREFIX}{claim_uid}");
    is_volume_name(&name).then_some(name)
}

/// Whether a volume can have this name: no path has it but one component that begins with `pvc-`.
#[must_use]
pub fn is_volume_name(name: &str) -> bool {
    let hex = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
    name.strip_prefix(PREFIX)
        .is_some_and(|uid| uid.len() == UID_LENGTH && uid.chars().all(hex))
}

/// Whether it was made by this provisioner, as far as the volume says.
#[must_use]
pub fn is_ours(volume: &PersistentVolume) -> bool {
    annotation(volume, PROVISIONED_BY) == Some(PROVISIONER)
}

/// The node that has the volume's directory; nothing of another provisioner's volume.
#[must_use]
pub fn node_of(volume: &PersistentVolume) -> Option<&str> {
    annotation(volume, NODE).filter(|node| is_ours(volume) && !node.is_empty())
}

fn annotation<'v>(volume: &'v PersistentVolume, key: &str) -> Option<&'v str> {
    let annotations = volume.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The name of the directory below `root` that the node has for the volume.
///
/// # Errors
/// When it is another node's or provisioner's, or its path is not just the one that it was given.
pub fn directory<'v>(
    volume: &'v PersistentVolume,
    node: &str,
    root: &Path,
) -> Result<&'v str, String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if !is_volume_name(name) {
        return Err(format!(
            "{name:?} is no name of a volume of {PROVISIONER}: expected {PREFIX}UID"
        ));
    }
    match node_of(volume) {
        Some(owner) if owner == node => {}
        Some(owner) => {
            return Err(format!(
                "the volume is a directory of node {owner:?}, not of {node:?}"
            ));
        }
        None => return Err(format!("the volume was not made by {PROVISIONER}")),
    }
    let spec = volume.spec.as_ref();
    let path = spec
        .and_then(|spec| spec.local.as_ref())
        .map(|local| &local.path);
    let wanted = root.join(name);
    match path {
        // As text: `root/./name` and `root/x/../name` are other paths.
        Some(path) if wanted.to_str() == Some(path) => Ok(name),
        Some(path) => Err(format!(
            "the volume's path {path:?} is not {wanted:?}, where this node keeps it"
        )),
        None => Err("the volume is no local one".to_owned()),
    }
}

/// The name of the directory below `root` that the node is to remove: the volume is being deleted, bound to nobody, its policy is
/// `Delete`, and [`directory`] holds.
///
/// A volume that is not there says nothing of the kind: its directory stays.
///
/// # Errors
/// Why it has to stay.
pub fn removable<'v>(
    volume: &'v PersistentVolume,
    node: &str,
    root: &Path,
) -> Result<&'v str, String> {
    let name = directory(volume, node, root)?;
    if volume.metadata.deletion_timestamp.is_none() {
        return Err("the volume is not being deleted".to_owned());
    }
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if policy != Some("Delete") {
        return Err(format!(
            "the volume's reclaim policy is {:?}, not \"Delete\"",
            policy.unwrap_or_default()
        ));
    }
    let status = volume.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    // `Bound` is written before a claim names the volume.
    if !matches!(phase, Some("Released" | "Failed" | "Available" | "Pending")) {
        return Err(format!(
            "the volume is {}: a claim may be bound to it",
            phase.unwrap_or_default()
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const NAME: &str = "pvc-0b1c2d3e-0000-4000-8000-000000000001";

    fn volume(change: impl Fn(&mut Value)) -> PersistentVolume {
        let mut volume = json!({
            "metadata": {"name": NAME, "deletionTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {PROVISIONED_BY: PROVISIONER, NODE: "a"}},
            "spec": {"local": {"path": format!("/data/{NAME}")}, "persistentVolumeReclaimPolicy": "Delete"},
            "status": {"phase": "Released"},
        });
        change(&mut volume);
        from_value(volume).unwrap()
    }

    #[test]
    fn a_uid_makes_a_name_and_nothing_else_does() {
        assert_eq!(volume_name(&NAME[4..]).as_deref(), Some(NAME));
        for bad in [
            "",
            "..",
            "../../etc",
            "a/b",
            "0B1C2D3E-0000-4000-8000-000000000001",
            "x",
        ] {
            assert_eq!(volume_name(bad), None, "{bad}");
        }
        for bad in [
            ".",
            "..",
            "",
            "pvc-",
            "pvc-../../../../../../../../../../../etc/x",
            "data",
        ] {
            assert!(!is_volume_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_a_released_volume_of_this_node_with_its_own_path_is_removed() {
        let root = Path::new("/data");
        assert_eq!(removable(&volume(|_| ()), "a", root), Ok(NAME));
        assert!(removable(&volume(|_| ()), "b", root).is_err());
        assert!(removable(&volume(|_| ()), "a", Path::new("/other")).is_err());
        let changes: [(&str, Value); 14] = [
            ("/metadata/deletionTimestamp", Value::Null),
            ("/metadata/name", json!("pvc-x")),
            ("/metadata/name", json!("..")),
            ("/metadata/annotations", json!({})),
            (
                "/metadata/annotations",
                json!({PROVISIONED_BY: "rancher.io/local-path", NODE: "a"}),
            ),
            (
                "/metadata/annotations",
                json!({PROVISIONED_BY: PROVISIONER, NODE: ""}),
            ),
            ("/spec/local/path", json!("/")),
            ("/spec/local/path", json!("/data")),
            ("/spec/local/path", json!(format!("/data/./{NAME}"))),
            ("/spec/local/path", json!(format!("/data/x/../{NAME}"))),
            ("/spec/local/path", json!(format!("/data/{NAME}/"))),
            ("/spec/persistentVolumeReclaimPolicy", json!("Retain")),
            ("/status/phase", json!("Bound")),
            ("/status", json!({})),
        ];
        for (at, value) in changes {
            let changed = volume(|volume| *volume.pointer_mut(at).unwrap() = value.clone());
            assert!(removable(&changed, "a", root).is_err(), "{at} {value}");
        }
        let host = volume(|volume| {
            volume["spec"] = json!({"hostPath": {"path": format!("/data/{NAME}")}, "persistentVolumeReclaimPolicy": "Delete"});
        });
        assert!(removable(&host, "a", root).is_err());
        assert_eq!(
            directory(&volume(|v| v["status"] = json!({})), "a", root),
            Ok(NAME)
        );
    }
}
