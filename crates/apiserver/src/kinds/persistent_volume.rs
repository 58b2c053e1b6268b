//! core/v1 PersistentVolume.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, access_modes, created_ago, name, phase, storage_class, text, unset};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for PersistentVolume {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
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
                ("Capacity", "string", 0),
                ("Access Modes", "string", 0),
                ("Reclaim Policy", "string", 0),
                ("Status", "string", 0),
                ("Claim", "string", 0),
                ("StorageClass", "string", 0),
                ("VolumeAttributesClass", "string", 0),
                ("Reason", "string", 0),
                ("Age", "string", 0),
                ("VolumeMode", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    json!(text(object, "/spec/capacity/storage")),
                    json!(access_modes(object, "/spec/accessModes")),
                    json!(text(object, "/spec/persistentVolumeReclaimPolicy")),
                    json!(phase(object)),
                    json!(claim(object)),
                    json!(storage_class(object)),
                    unset(text(object, "/spec/volumeAttributesClassName")),
                    json!(text(object, "/status/reason")),
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

fn claim(volume: &Value) -> String {
    let claim = |field: &str| text(volume, &format!("/spec/claimRef/{field}"));
    match claim("name") {
        "" => String::new(),
        object => format!("{}/{object}", claim("namespace")),
    }
}
