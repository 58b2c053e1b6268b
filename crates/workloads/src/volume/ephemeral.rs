//! Generic ephemeral volumes (KEP-1698): claims that are made for a pod and go with it.

use berth_core::meta::controller_of;
use berth_core::pod::is_finished;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Event;
use crate::owner::controller_reference;

/// The claims that the pod needs, by their names; none for one that is over or being deleted.
#[must_use]
pub fn claims(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    if pod.metadata.deletion_timestamp.is_some() || is_finished(pod) {
        return Vec::new();
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let made = volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        let meta = template.metadata.clone().unwrap_or_default();
        Some(PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{}", volume.name)),
                namespace: pod.metadata.namespace.clone(),
                annotations: meta.annotations,
                labels: meta.labels,
                owner_references: Some(vec![controller_reference::<Pod>(&pod.metadata)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        })
    });
    made.collect()
}

/// Why a claim of the name that the pod needs is not the pod's.
#[must_use]
pub fn conflict(pod: &Pod, claim: &PersistentVolumeClaim) -> Option<Event> {
    let owner = controller_of(&claim.metadata).map(|owner| owner.uid.as_str());
    if owner == pod.metadata.uid.as_deref() {
        return None;
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    let claim = text(&claim.metadata.name);
    Some(failed(&format!(
        "PVC \"{namespace}/{claim}\" was not created for pod \"{namespace}/{name}\" (pod is not owner)"
    )))
}

/// That a claim could not be made.
#[must_use]
pub fn failed(why: &str) -> Event {
    Event::warning("FailedBinding", format!("ephemeral volume: {why}"))
}
