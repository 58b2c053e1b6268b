//! core/v1 ReplicationController.

use berth_api::status::ApiError;
use berth_core::selector::labels_text;
use k8s_openapi::api::core::v1::ReplicationController;

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Scale, Updates};
use crate::printer::{Printer, containers, created_ago, images, labels_at, name, number};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

/// Where the pods' spec is.
const POD: &str = "/spec/template/spec";

impl Kind for ReplicationController {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] =
        &[FieldLabel::or("status.replicas", "/status/replicas", "0")];
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
                ("Desired", "integer", 0),
                ("Current", "integer", 0),
                ("Ready", "integer", 0),
                ("Age", "string", 0),
                ("Containers", "string", 1),
                ("Images", "string", 1),
                ("Selector", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    number(object, "/spec/replicas"),
                    number(object, "/status/replicas"),
                    number(object, "/status/readyReplicas"),
                    created_ago(object, now),
                    containers(object, POD),
                    images(object, POD),
                    labels_at(object, "/spec/selector"),
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
            selector: |object| {
                let labels = object.spec.as_ref().and_then(|s| s.selector.as_ref());
                labels.map(labels_text)
            },
        })
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let template = new.spec.as_ref().and_then(|s| s.template.as_ref());
        controllers::workload_warnings::<Self>(template, "spec.template", cluster)
    }
}
