//! storage.k8s.io/v1 StorageClass.

use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, text};
use crate::registry::{Scope, Subresource};

impl Kind for StorageClass {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["sc"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Provisioner", "string", 0),
                ("ReclaimPolicy", "string", 0),
                ("VolumeBindingMode", "string", 0),
                ("AllowVolumeExpansion", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    json!(shown_name(object)),
                    object["provisioner"].clone(),
                    object["reclaimPolicy"].clone(),
                    object["volumeBindingMode"].clone(),
                    json!(object["allowVolumeExpansion"] == true),
                    created_ago(object, now),
                ]
            },
        )
    }
}

/// The annotations that make a class the default one.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

fn shown_name(class: &Value) -> String {
    let annotations = &class["metadata"]["annotations"];
    let is_default = DEFAULT.iter().any(|name| annotations[*name] == "true");
    let name = text(class, "/metadata/name");
    if is_default {
        format!("{name} (default)")
    } else {
        name.to_owned()
    }
}
