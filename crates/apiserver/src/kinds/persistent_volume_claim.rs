//! core/v1 PersistentVolumeClaim.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, access_modes, created_ago, name, phase, storage_class, text, unset};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for PersistentVolumeClaim {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
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
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Status", "string", 0),
                ("Volume", "string", 0),
                ("Capacity", "string", 0),
                ("Access Modes", "string", 0),
                ("StorageClass", "string", 0),
                ("VolumeAttributesClass", "string", 0),
                ("Age", "string", 0),
                ("VolumeMode", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    json!(phase(object)),
                    json!(text(object, "/spec/volumeName")),
                    json!(bound(object, text(object, "/status/capacity/storage"))),
                    json!(bound(object, &access_modes(object, "/status/accessModes"))),
                    json!(storage_class(object)),
                    unset(text(object, "/spec/volumeAttributesClassName")),
                    created_ago(object, now),
                    unset(text(object, "/spec/volumeMode")),
                ]
            },
        )
    }

    fn warnings(_new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        controllers::warnings::<Self>(cluster)
    }
}

/// What a claim has once a volume is bound to it.
fn bound(claim: &Value, shown: &str) -> String {
    let is_bound = !text(claim, "/spec/volumeName").is_empty();
    shown.chars().filter(|_| is_bound).collect()
}
