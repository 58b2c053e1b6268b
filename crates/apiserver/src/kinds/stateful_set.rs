//! apps/v1 StatefulSet.

use berth_api::status::ApiError;
use berth_core::selector::text_of;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::json;

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Scale, Updates};
use crate::printer::{Printer, containers, created_ago, images, name, ratio};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

/// Where the pods' spec is.
const POD: &str = "/spec/template/spec";

impl Kind for StatefulSet {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::scale(), Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Ready", "string", 0),
                ("Age", "string", 0),
                ("Containers", "string", 1),
                ("Images", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    json!(ratio(object, "/status/readyReplicas", "/spec/replicas")),
                    created_ago(object, now),
                    containers(object, POD),
                    images(object, POD),
                ]
            },
        )
    }

    fn scale() -> Option<Scale<Self>> {
        Some(Scale {
            replicas: |object| object.spec.as_ref().and_then(|s| s.replicas),
            set_replicas: |object, replicas| {
                object.spec.get_or_insert_default().replicas = Some(replicas);
            },
            observed: |object| object.status.as_ref().map(|s| s.replicas),
            selector: |object| object.spec.as_ref().map(|s| text_of(&s.selector)),
        })
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let template = new.spec.as_ref().map(|s| &s.template);
        controllers::workload_warnings::<Self>(template, "spec.template", cluster)
    }
}
