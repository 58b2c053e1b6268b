//! storage.k8s.io/v1 CSIStorageCapacity.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::json;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, name, text};
use crate::registry::{Scope, Subresource};

impl Kind for CSIStorageCapacity {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("StorageClassName", "string", 0),
                ("Capacity", "string", 0),
            ],
            |object, _| {
                vec![
                    name(object),
                    object["storageClassName"].clone(),
                    json!(text(object, "/capacity")),
                ]
            },
        )
    }
}
