//! From a pod template to a pod, and the hash that tells templates apart.

use berth_api::names::GENERATED_ALPHABET as ALPHABET;
use berth_core::fnv::fnv1a;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;

/// The label by which a Deployment's ReplicaSets tell their pods apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod of this template, with a name that the server generates from its controller's.
#[must_use]
pub fn pod_of(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            // The server cuts what is too long for a host name.
            generate_name: Some(format!("{}-", owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

/// Whether two templates make the same pods. The label that only a ReplicaSet's has doesn't count.
#[must_use]
pub fn is_same(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    bare(one) == bare(other)
}

/// Without the label, and without what is there and empty.
fn bare(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let mut meta = template.metadata.take().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(POD_TEMPLATE_HASH);
    }
    meta.labels = meta.labels.filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.filter(|a| !a.is_empty());
    meta.finalizers = meta.finalizers.filter(|f| !f.is_empty());
    meta.creation_timestamp = None;
    template.metadata = Some(meta);
    template
}

/// The hash of a template (or of another part of an object), as a suffix of names. `collisions` gives another one when two templates have the
/// same.
#[must_use]
pub fn hash<T: Serialize>(of: &T, collisions: Option<i32>) -> String {
    // Object members are in the order of their fields, maps in that of their keys: equal objects have equal text.
    let text = serde_json::to_vec(of).unwrap_or_default();
    let collisions = collisions.into_iter().flat_map(i32::to_le_bytes);
    // It only names things: a collision is found when the name is taken.
    safe(&fnv1a(text.into_iter().chain(collisions)).to_string())
}

/// In the alphabet of generated names, which has no vowels (apimachinery's `rand.SafeEncodeString`).
fn safe(digits: &str) -> String {
    let char_of = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    digits.bytes().map(char_of).collect()
}
