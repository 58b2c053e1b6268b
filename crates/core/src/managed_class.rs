//! RuntimeClasses that the server makes by itself: for which handlers, with what overhead, and how one is told from a user's.
//!
//! Handlers are told of by nodes, and a node may be in the wrong hands. So classes are made for these names only, which are
//! those that the runtimes' own installers use, and for what an administrator adds: no node gives a name of its choice to
//! something that users might take for another thing.

use std::collections::BTreeMap;

use k8s_openapi::api::node::v1::{Overhead, RuntimeClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::annotations::MEASURED_OVERHEAD;
use crate::class_status;
use crate::fnv::fnv1a;

/// The label of a class that the server has made, and its value.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "berth");
/// The annotation by which a class is known to be as the server has made it: a number for all of it.
pub const MANAGED: &str = "node.berth.dev/managed";
/// The annotation of a class that no node has the handler for any more: since when.
pub const UNUSABLE_SINCE: &str = "node.berth.dev/unusable-since";

/// What the server's controllers keep in a class beside what it is made of.
const KEPT: [&str; 4] = [
    MANAGED,
    UNUSABLE_SINCE,
    MEASURED_OVERHEAD,
    class_status::ANNOTATION,
];

/// The overhead that is published for a handler: MiB and thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Memory.
    pub mebibytes: u64,
    /// Processor.
    pub milli_cores: u64,
}

impl Published {
    const fn new(mebibytes: u64, milli_cores: u64) -> Option<Self> {
        Some(Self {
            mebibytes,
            milli_cores,
        })
    }

    /// As a class declares it.
    #[must_use]
    pub fn overhead(self) -> Overhead {
        let milli = self.milli_cores;
        let cpu = match milli % 1000 {
            0 => (milli / 1000).to_string(),
            _ => format!("{milli}m"),
        };
        let fixed = [("cpu", cpu), ("memory", format!("{}Mi", self.mebibytes))];
        let fixed = fixed.map(|(name, amount)| (name.to_owned(), Quantity(amount)));
        Overhead {
            pod_fixed: Some(BTreeMap::from(fixed)),
        }
    }
}

/// The handlers that classes are made for, by the names that the runtimes' installers give them, with the overhead that Kata
/// publishes for its own. The others publish none.
const HANDLERS: &[(&str, Option<Published>)] = &[
    ("berth", None),
    ("crun", None),
    ("kata", Published::new(160, 250)),
    ("kata-clh", Published::new(130, 250)),
    ("kata-cloud-hypervisor", Published::new(130, 250)),
    ("kata-dragonball", Published::new(130, 250)),
    ("kata-fc", Published::new(130, 250)),
    ("kata-qemu", Published::new(160, 250)),
    ("kata-qemu-cca", Published::new(2048, 1000)),
    ("kata-qemu-coco-dev", Published::new(160, 250)),
    ("kata-qemu-coco-dev-runtime-rs", Published::new(160, 250)),
    ("kata-qemu-nvidia-gpu", Published::new(98304, 1000)),
    ("kata-qemu-nvidia-gpu-snp", Published::new(98304, 1000)),
    ("kata-qemu-nvidia-gpu-tdx", Published::new(98304, 1000)),
    ("kata-qemu-runtime-rs", Published::new(160, 250)),
    ("kata-qemu-se", Published::new(2048, 1000)),
    ("kata-qemu-se-runtime-rs", Published::new(160, 250)),
    ("kata-qemu-snp", Published::new(2048, 1000)),
    ("kata-qemu-tdx", Published::new(2048, 1000)),
    ("kata-remote", Published::new(120, 250)),
    ("kata-stratovirt", Published::new(130, 250)),
    ("lunatic", None),
    ("nvidia", None),
    ("runc", None),
    ("runsc", None),
    ("slight", None),
    ("spin", None),
    ("wasmedge", None),
    ("wasmer", None),
    ("wasmtime", None),
    ("wws", None),
    ("youki", None),
];

/// Whether the server makes a class for a handler of this name by itself.
#[must_use]
pub fn is_known(handler: &str) -> bool {
    HANDLERS.iter().any(|(name, _)| *name == handler)
}

/// The overhead that is published for it.
#[must_use]
pub fn published(handler: &str) -> Option<Published> {
    let found = HANDLERS.iter().find(|(name, _)| *name == handler);
    found.and_then(|(_, published)| *published)
}

/// The class that the server makes for a handler: it has the handler's name.
#[must_use]
pub fn make(handler: &str, overhead: Option<Overhead>) -> RuntimeClass {
    let mut class = RuntimeClass {
        metadata: ObjectMeta {
            name: Some(handler.to_owned()),
            labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        handler: handler.to_owned(),
        overhead,
        scheduling: None,
    };
    seal(&mut class);
    class
}

/// Notes in a class what it is made of now.
pub fn seal(class: &mut RuntimeClass) {
    let seal = fingerprint(class);
    let annotations = class.metadata.annotations.get_or_insert_default();
    annotations.insert(MANAGED.to_owned(), seal);
}

/// Whether a class is as the server has made it. One that somebody has changed in any way (its spec, a label, an annotation, a
/// finalizer, an owner), or has made a copy of under another name, is theirs.
#[must_use]
pub fn is_managed(class: &RuntimeClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    let seal = annotations.and_then(|annotations| annotations.get(MANAGED));
    let labels = class.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(LABEL.0));
    label.map(String::as_str) == Some(LABEL.1) && seal == Some(&fingerprint(class))
}

/// A number for all that people write in a class. It tells changes apart, and keeps nobody who may write classes from forging it.
fn fingerprint(class: &RuntimeClass) -> String {
    let meta = &class.metadata;
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !KEPT.contains(&key.as_str()));
    let whole = json!([
        meta.name,
        meta.labels,
        annotations,
        meta.finalizers.as_deref().unwrap_or_default(),
        meta.owner_references.as_deref().unwrap_or_default(),
        class.handler,
        class.overhead,
        class.scheduling,
    ]);
    let text = whole.to_string();
    let forth = fnv1a(text.bytes());
    let back = fnv1a(text.bytes().rev());
    format!("{forth:08x}{back:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_changed_is_theirs() {
        let made = make("kata-qemu", published("kata-qemu").map(Published::overhead));
        assert!(is_managed(&made));
        let changes: [fn(&mut RuntimeClass); 9] = [
            |c| c.metadata.name = Some("copy".into()),
            |c| c.handler = "other".into(),
            |c| c.overhead = None,
            |c| {
                let fixed = c.overhead.as_mut().unwrap().pod_fixed.as_mut().unwrap();
                fixed.insert("cpu".into(), Quantity("251m".into()));
            },
            |c| c.scheduling = Some(Default::default()),
            |c| {
                c.metadata
                    .labels
                    .as_mut()
                    .unwrap()
                    .insert("a".into(), "b".into());
            },
            |c| c.metadata.labels = None,
            |c| {
                let annotations = c.metadata.annotations.as_mut().unwrap();
                annotations.insert("node.berth.dev/isolation".into(), "vm".into());
            },
            |c| c.metadata.finalizers = Some(vec!["example.com/mine".into()]),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut class = made.clone();
            change(&mut class);
            assert!(!is_managed(&class), "change {i}");
        }
        // What controllers keep in it is none of it, and neither is what the server gives every object.
        let mut kept = made.clone();
        let annotations = kept.metadata.annotations.as_mut().unwrap();
        annotations.insert(UNUSABLE_SINCE.into(), "2026-01-01T00:00:00Z".into());
        annotations.insert(MEASURED_OVERHEAD.into(), "n1: ...".into());
        annotations.insert(class_status::ANNOTATION.into(), "{}".into());
        kept.metadata.uid = Some("u".into());
        kept.metadata.resource_version = Some("7".into());
        assert!(is_managed(&kept));
        // The label alone makes nothing managed.
        let mut labelled = made;
        labelled.metadata.annotations = None;
        assert!(!is_managed(&labelled));
    }

    #[test]
    fn names_are_handlers_and_sorted() {
        let names: Vec<&str> = HANDLERS.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted());
        for name in names {
            assert!(berth_api::names::dns1123_label(name).is_empty(), "{name}");
            assert!(crate::isolation::by_name(name).is_some(), "{name}");
        }
        assert!(!is_known("gvisor") && !is_known(""));
    }
}
