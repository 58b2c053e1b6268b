//! From a pod template to a pod, and the hash that tells templates apart.

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
    let mut state = Fnv::default();
    // Object members are in the order of their fields, maps in that of their keys: equal objects have equal text.
    let text = serde_json::to_vec(of).unwrap_or_default();
    state.add(&text);
    if let Some(collisions) = collisions {
        state.add(&collisions.to_le_bytes());
    }
    safe(&state.0.to_string())
}

/// FNV-1a of 32 bits. It only names things: a collision is found when the name is taken.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// In the alphabet of generated names, which has no vowels (apimachinery's `rand.SafeEncodeString`).
fn safe(digits: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let char_of = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    digits.bytes().map(char_of).collect()
}
