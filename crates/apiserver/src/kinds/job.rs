//! batch/v1 Job.

use berth_api::status::ApiError;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::controllers;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{
    Printer, age, containers, created_ago, images, items, name, number, selector, text,
};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

/// Where the pods' spec is.
const POD: &str = "/spec/template/spec";

impl Kind for Job {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[FieldLabel::or(
        "status.successful",
        "/status/succeeded",
        "0",
    )];
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
                ("Status", "string", 0),
                ("Completions", "string", 0),
                ("Duration", "string", 0),
                ("Age", "string", 0),
                ("Containers", "string", 1),
                ("Images", "string", 1),
                ("Selector", "string", 1),
            ],
            |object, now| {
                vec![
                    name(object),
                    json!(status(object)),
                    json!(completions(object)),
                    json!(duration(object, now)),
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

/// The condition that says most.
fn status(job: &Value) -> &'static str {
    let is = |kind: &str| {
        let conditions = items(job, "/status/conditions");
        conditions
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    let parallelism = job["spec"]["parallelism"].as_i64().unwrap_or(0);
    match job["spec"]["completions"].as_i64() {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: jiff::Timestamp) -> String {
    let start = text(job, "/status/startTime");
    if start.is_empty() {
        return String::new();
    }
    let end = text(job, "/status/completionTime").parse().unwrap_or(now);
    age::since(start, end)
}
