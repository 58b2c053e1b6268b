//! batch/v1 CronJob.

use berth_api::status::ApiError;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{
    NONE, Printer, age, containers, created_ago, images, items, labels_at, name, or_none, text,
};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

/// Where the pods' spec is.
const POD: &str = "/spec/jobTemplate/spec/template/spec";

impl Kind for CronJob {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
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
                ("Schedule", "string", 0),
                ("Timezone", "string", 0),
                ("Suspend", "boolean", 0),
                ("Active", "integer", 0),
                ("Last Schedule", "string", 0),
                ("Age", "string", 0),
                ("Containers", "string", 1),
                ("Images", "string", 1),
                ("Selector", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    object["spec"]["schedule"].clone(),
                    or_none(text(object, "/spec/timeZone")),
                    json!(if object["spec"]["suspend"] == true {
                        "True"
                    } else {
                        "False"
                    }),
                    json!(items(object, "/status/active").len()),
                    json!(last_schedule(object, now)),
                    created_ago(object, now),
                    containers(object, POD),
                    images(object, POD),
                    labels_at(object, "/spec/jobTemplate/spec/selector/matchLabels"),
                ]
            },
        )
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        let template = new.spec.job_template.spec.as_ref().map(|s| &s.template);
        controllers::workload_warnings::<Self>(template, "spec.jobTemplate.spec.template", cluster)
    }
}

fn last_schedule(job: &Value, now: jiff::Timestamp) -> String {
    match text(job, "/status/lastScheduleTime") {
        "" => NONE.to_owned(),
        at => age::since(at, now),
    }
}
