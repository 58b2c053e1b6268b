//! The volumes of a pod.

mod projected;
mod source;

use std::collections::{BTreeMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{PodSpec, Volume};

use berth_core::meta;

/// The volumes that are right, by name: only these can be mounted.
pub(in crate::pod) type Volumes<'p> = BTreeMap<&'p str, &'p Volume>;

pub(super) fn validate<'p>(
    spec: &'p PodSpec,
    pod_name: &str,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> Volumes<'p> {
    let mut known = Volumes::new();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    // The claims that are made for ephemeral volumes.
    let made: HashSet<String> = volumes
        .iter()
        .filter(|v| v.ephemeral.is_some())
        .map(|v| format!("{pod_name}-{}", v.name))
        .collect();
    for (i, volume) in volumes.iter().enumerate() {
        let at = at.index(i);
        let mut wrong = source::validate(volume, pod_name, &at);
        let name_at = at.child("name");
        if volume.name.is_empty() {
            wrong.push(FieldError::required(&name_at, ""));
        } else {
            meta::extend_invalid(
                &mut wrong,
                &name_at,
                &volume.name,
                names::dns1123_label(&volume.name),
            );
        }
        if known.contains_key(volume.name.as_str()) {
            wrong.push(FieldError::duplicate(&name_at, &volume.name));
        }
        if wrong.is_empty() {
            known.insert(&volume.name, volume);
        }
        errors.extend(wrong);
        if let Some(claim) = &volume.persistent_volume_claim
            && made.contains(&claim.claim_name)
        {
            errors.push(FieldError::invalid(
                &at.child("persistentVolumeClaim.claimName"),
                &claim.claim_name,
                "must not reference a PVC that gets created for an ephemeral volume",
            ));
        }
    }
    known
}
