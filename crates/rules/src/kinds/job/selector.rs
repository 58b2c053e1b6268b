//! The selector of a job, which the server makes from its uid unless the client brings one.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::batch::v1::Job;
use std::collections::BTreeMap;

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const LEGACY_UID: &str = "controller-uid";
const LEGACY_NAME: &str = "job-name";

/// Sets the selector, and the labels that it selects; one that is there already and differs is found by validation.
pub(super) fn generate(job: &mut Job) {
    let name = job.metadata.name.clone().unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let Some(spec) = &mut job.spec else {
        return;
    };
    if spec.manual_selector == Some(true) {
        return;
    }
    let metadata = spec.template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    for (legacy, current, value) in [(LEGACY_NAME, NAME, &name), (LEGACY_UID, UID, &uid)] {
        if !labels.contains_key(legacy) {
            labels.insert(legacy.to_owned(), value.clone());
            labels.insert(current.to_owned(), value.clone());
        }
    }
    let selected = spec
        .selector
        .get_or_insert_default()
        .match_labels
        .get_or_insert_default();
    if !selected.contains_key(UID) {
        selected.insert(UID.to_owned(), uid);
    }
}

/// What [`generate`] has made, or could not make because the client had something else there.
pub(super) fn validate_generated(job: &Job) -> Vec<FieldError> {
    let spec = job.spec.as_ref();
    let Some(spec) = spec.filter(|spec| spec.manual_selector != Some(true)) else {
        return Vec::new();
    };
    let name = job.metadata.name.clone().unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let at = FieldPath::new("spec.template.metadata.labels");
    let mut errors = Vec::new();
    if uid.is_empty() {
        errors.push(FieldError::required(&FieldPath::new("metadata.uid"), ""));
    }
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|m| m.labels.as_ref());
    let expected: BTreeMap<String, String> = [
        (LEGACY_UID, &uid),
        (LEGACY_NAME, &name),
        (UID, &uid),
        (NAME, &name),
    ]
    .map(|(key, value)| (key.to_owned(), value.clone()))
    .into();
    for (key, value) in &expected {
        let why = format!("must be '{value}'");
        match labels.and_then(|labels| labels.get(key)) {
            None => errors.push(FieldError::required(&at.key(key), why)),
            Some(given) if given != value => {
                errors.push(FieldError::invalid(&at.key(key), labels, why));
            }
            Some(_) => {}
        }
    }
    if let Some(selector) = &spec.selector
        && !berth_core::selector::label_selector_matches(selector, Some(&expected))
    {
        errors.push(FieldError::invalid(
            &FieldPath::new("spec.selector"),
            selector,
            "`selector` not auto-generated",
        ));
    }
    errors
}
