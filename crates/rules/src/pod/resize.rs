//! Updates of the subresource `resize`: cpu and memory of running containers (KEP-1287) and of the pod as a whole
//! (KEP-5419), and nothing else.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath, bounded};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use super::{update, validate};
use berth_core::container::is_sidecar;
use berth_core::meta;
use berth_core::qos;
use berth_core::resource_list::{self, WireList};

const ONLY: &str = "only cpu and memory resources are mutable";
const ONLY_SIDECARS: &str = "only cpu and memory resources for sidecar containers are mutable";
const INIT: &str = "resources for non-sidecar init containers are immutable";

/// `old` with what a resize may change of it: the pod's own resources, and resources and resize policies of the containers
/// of both lists, by name.
/// Whatever else the request says is dropped, as the stock server does; what may not change is for
/// [`validate_resize`] to say. Names and versions of the request are kept, so that an update of another object shows.
#[must_use]
pub fn apply_resize(request: &Pod, old: &Pod) -> Pod {
    let mut pod = old.clone();
    let (to, from) = (&mut pod.metadata, &request.metadata);
    to.name.clone_from(&from.name);
    to.namespace.clone_from(&from.namespace);
    if from.uid.as_ref().is_some_and(|uid| !uid.is_empty()) {
        to.uid.clone_from(&from.uid);
    }
    to.resource_version.clone_from(&from.resource_version);
    to.managed_fields.clone_from(&from.managed_fields);
    if let (Some(new), Some(wanted)) = (pod.spec.as_mut(), request.spec.as_ref()) {
        new.resources.clone_from(&wanted.resources);
        take_over(&mut new.containers, &wanted.containers);
        if let Some(init) = new.init_containers.as_mut() {
            take_over(init, list(&wanted.init_containers));
        }
    }
    if pod.spec != old.spec {
        pod.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
    }
    pod
}

fn list(containers: &Option<Vec<Container>>) -> &[Container] {
    containers.as_deref().unwrap_or_default()
}

fn take_over(containers: &mut [Container], wanted: &[Container]) {
    let wanted: BTreeMap<&str, &Container> = wanted.iter().map(|c| (c.name.as_str(), c)).collect();
    for container in containers {
        if let Some(wanted) = wanted.get(container.name.as_str()) {
            container.resources.clone_from(&wanted.resources);
            container.resize_policy.clone_from(&wanted.resize_policy);
        }
    }
}

/// What is wrong with a resize that turns `old` into `pod`.
#[must_use]
pub fn validate_resize(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    bounded(errors_of_resize(pod, old))
}

fn errors_of_resize(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&pod.metadata, &old.metadata);
    errors.extend(validate::metadata_and_spec(pod));
    let none = PodSpec::default();
    let (new, before) = (
        pod.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    if let Some(why) = not_resizable(old, before) {
        return vec![FieldError::forbidden(&FieldPath::new("[]"), why)];
    }
    let at = FieldPath::new("spec");
    let other_containers = same_containers(new, before, &at);
    if !other_containers.is_empty() {
        errors.extend(other_containers);
        return errors;
    }
    let class_of_old = old
        .status
        .as_ref()
        .and_then(|s| s.qos_class.clone())
        .unwrap_or_else(|| qos::class(before).name().to_owned());
    let class = qos::class(new).name();
    if class != class_of_old {
        errors.push(FieldError::invalid(
            &at,
            class,
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !node_resizes(old) {
        errors.push(FieldError::forbidden(
            &at,
            "Pod running on node without support for resize",
        ));
    }
    for (name, new, old) in [
        (
            "initContainers",
            list(&new.init_containers),
            list(&before.init_containers),
        ),
        (
            "containers",
            new.containers.as_slice(),
            before.containers.as_slice(),
        ),
    ] {
        let of_init = name == "initContainers";
        for (i, (new, old)) in new.iter().zip(old).enumerate() {
            if !of_init || is_sidecar(old) {
                let at = at.child(name).index(i).child("resources");
                let (new, old) = (new.resources.as_ref(), old.resources.as_ref());
                errors.extend(nothing_removed(new, old, &at));
            }
        }
    }
    errors.extend(nothing_removed(
        new.resources.as_ref(),
        before.resources.as_ref(),
        &at.child("resources"),
    ));
    let mut rest = new.clone();
    put_back(&mut rest.resources, &before.resources);
    if rest.resources != before.resources {
        errors.push(FieldError::forbidden(&at, ONLY));
        rest.resources.clone_from(&before.resources);
    }
    for (new, old) in rest.containers.iter_mut().zip(&before.containers) {
        put_back(&mut new.resources, &old.resources);
        if new != old {
            errors.push(FieldError::forbidden(&at, ONLY));
        }
    }
    let init = rest.init_containers.iter_mut().flatten();
    for (new, old) in init.zip(list(&before.init_containers)) {
        if is_sidecar(old) {
            put_back(&mut new.resources, &old.resources);
            if new != old {
                errors.push(FieldError::forbidden(&at, ONLY_SIDECARS));
            }
        } else if new != old {
            errors.push(FieldError::forbidden(&at, INIT));
        }
    }
    if errors.is_empty() && !update::same(&rest, before) {
        errors.push(FieldError::forbidden(&at, ONLY));
    }
    errors
}

/// Why a pod cannot be resized at all.
fn not_resizable(old: &Pod, before: &PodSpec) -> Option<&'static str> {
    let annotations = old.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.contains_key(validate::MIRROR)) {
        Some("static pods cannot be resized")
    } else if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        Some("windows pods cannot be resized")
    } else {
        None
    }
}

/// The same containers in the same order.
fn same_containers(new: &PodSpec, old: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, new, old) in [
        (
            "containers",
            new.containers.as_slice(),
            old.containers.as_slice(),
        ),
        (
            "initContainers",
            list(&new.init_containers),
            list(&old.init_containers),
        ),
    ] {
        let names = |list: &[Container]| list.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let why = if new.len() != old.len() {
            "may not be added or removed on resize"
        } else if names(new) != names(old) {
            "may not be renamed or reordered on resize"
        } else {
            continue;
        };
        errors.push(FieldError::forbidden(
            &at.child(name),
            format!("{name} {why}"),
        ));
    }
    errors
}

/// A node that resizes reports the resources of running containers. Without a running container nothing is known, and
/// the node will start them as they are then.
fn node_resizes(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .find(|s| {
            s.state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        })
        .is_none_or(|s| s.resources.is_some())
}

/// Requests and limits change; they do not go away.
fn nothing_removed(
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let none = ResourceRequirements::default();
    let (new, old) = (new.unwrap_or(&none), old.unwrap_or(&none));
    let removed = |new: &Option<WireList>, old: &Option<WireList>| {
        old.iter()
            .flatten()
            .any(|(name, _)| new.as_ref().is_none_or(|n| !n.contains_key(name)))
    };
    let mut errors = Vec::new();
    if removed(&new.requests, &old.requests) {
        errors.push(FieldError::forbidden(
            &at.child("requests"),
            "resource requests cannot be removed",
        ));
    }
    if removed(&new.limits, &old.limits) {
        errors.push(FieldError::forbidden(
            &at.child("limits"),
            "resource limits cannot be removed",
        ));
    }
    errors
}

/// Takes the changes back that are allowed, so that what is left must be as before.
fn put_back(new: &mut Option<ResourceRequirements>, old: &Option<ResourceRequirements>) {
    let none = ResourceRequirements::default();
    let of_new = new.as_ref().unwrap_or(&none);
    let of_old = old.as_ref().unwrap_or(&none);
    let rest = |list: &Option<WireList>| -> WireList {
        let mut list = list.clone().unwrap_or_default();
        list.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        list
    };
    let same = |new: &Option<WireList>, old: &Option<WireList>| {
        resource_list::equal(&rest(new), &rest(old))
    };
    let claims = |r: &ResourceRequirements| r.claims.clone().unwrap_or_default();
    if same(&of_new.limits, &of_old.limits)
        && same(&of_new.requests, &of_old.requests)
        && claims(of_new) == claims(of_old)
    {
        new.clone_from(old);
    }
}

#[cfg(test)]
mod tests;
