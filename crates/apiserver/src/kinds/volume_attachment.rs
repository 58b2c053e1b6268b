//! storage.k8s.io/v1 VolumeAttachment.

use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::json;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, text};
use crate::registry::{Scope, Subresource};

impl Kind for VolumeAttachment {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: false,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Attacher", "string", 0),
                ("PV", "string", 0),
                ("Node", "string", 0),
                ("Attached", "boolean", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["spec"]["attacher"].clone(),
                    json!(text(object, "/spec/source/persistentVolumeName")),
                    object["spec"]["nodeName"].clone(),
                    json!(object["status"]["attached"] == true),
                    created_ago(object, now),
                ]
            },
        )
    }
}
