//! apps/v1 DaemonSet.

use berth_api::status::ApiError;
use k8s_openapi::api::apps::v1::DaemonSet;

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, containers, created_ago, images, labels_at, name, number, selector};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

/// Where the pods' spec is.
const POD: &str = "/spec/template/spec";

impl Kind for DaemonSet {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![Subresource::status::<Self>()]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Desired", "integer", 0),
                ("Current", "integer", 0),
                ("Ready", "integer", 0),
                ("Up-to-date", "integer", 0),
                ("Available", "integer", 0),
                ("Node Selector", "string", 0),
                ("Age", "string", 0),
                ("Containers", "string", 1),
                ("Images", "string", 1),
                ("Selector", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    number(object, "/status/desiredNumberScheduled"),
                    number(object, "/status/currentNumberScheduled"),
                    number(object, "/status/numberReady"),
                    number(object, "/status/updatedNumberScheduled"),
                    number(object, "/status/numberAvailable"),
                    labels_at(object, "/spec/template/spec/nodeSelector"),
                    created_ago(object, now),
                    containers(object, POD),
                    images(object, POD),
                    selector(object),
                ]
            },
        )
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let template = new.spec.as_ref().map(|s| &s.template);
        controllers::workload_warnings::<Self>(template, "spec.template", cluster)
    }
}
