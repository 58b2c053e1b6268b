//! A pod of a Job.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::FINALIZER;
use super::counts::{FAILURES, IGNORED, number};
use super::failure_policy::{Action, action};
use super::indexes::INDEX;
use crate::owner::controller_reference;
use crate::template::pod_of;

/// The variable by which a container learns its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A new pod; of an indexed Job with its index and the earlier pods of that.
pub(super) fn of(job: &Job, spec: &JobSpec, index: Option<(i32, &[Arc<Pod>])>) -> Pod {
    let owner = controller_reference::<Job>(&job.metadata);
    let name = owner.name.clone();
    let mut pod = pod_of(&spec.template, owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some((index, before)) = index else {
        return pod;
    };
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        let (failed, ignored) = failures(spec, before);
        annotations.insert(FAILURES.to_owned(), failed.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), index.to_string());
    if let Some(pod_spec) = &mut pod.spec {
        pod_spec.hostname = Some(format!("{name}-{index}"));
        let init = pod_spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut pod_spec.containers) {
            let env = container.env.get_or_insert_default();
            // One that the template has stays as it is.
            if !env.iter().any(|variable| variable.name == VARIABLE) {
                env.push(variable());
            }
        }
    }
    pod
}

fn variable() -> EnvVar {
    EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// How many pods of the index have failed, and how many of them were ignored: by the youngest of them.
fn failures(spec: &JobSpec, before: &[Arc<Pod>]) -> (i32, i32) {
    let tries = |pod: &Arc<Pod>| number(pod, FAILURES) + number(pod, IGNORED);
    let Some(last) = before.iter().max_by_key(|pod| tries(pod)) else {
        return (0, 0);
    };
    let (failed, ignored) = (number(last, FAILURES), number(last, IGNORED));
    match action(spec.pod_failure_policy.as_ref(), last) {
        Action::Ignore => (failed, ignored.saturating_add(1)),
        Action::Count | Action::FailIndex | Action::FailJob(_) => {
            (failed.saturating_add(1), ignored)
        }
    }
}
