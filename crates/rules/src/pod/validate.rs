//! What is wrong with a pod, as the reference's `ValidatePodCreate` says it.

mod affinity;
mod container;
mod environment;
mod host;
mod mounts;
mod network;
mod probe;
mod security;
mod spread;
mod volumes;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use berth_core::meta::{self, Scope};
use berth_core::resource_list::{self, Holder};
use berth_core::{resources, toleration};

pub(super) use affinity::node_selector;
pub(super) use volumes::Volumes;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// An enumeration: required, and one of the values.
fn one_of(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str, values: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !values.contains(&value) {
        errors.push(FieldError::not_supported(at, value, values));
    }
}

/// A required text.
fn required(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
}

/// A pod that is being created.
pub(super) fn create(pod: &Pod) -> Vec<FieldError> {
    let mut errors = metadata_and_spec(pod);
    let Some(spec) = &pod.spec else {
        return errors;
    };
    let at = FieldPath::new("spec");
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|e| !e.is_empty())
    {
        errors.push(FieldError::forbidden(
            &at.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|g| !g.is_empty());
    if !text(&spec.node_name).is_empty() && gated {
        errors.push(FieldError::forbidden(
            &at.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
    errors
}

/// What holds for a pod at any time.
pub(super) fn metadata_and_spec(pod: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate(&pod.metadata, Scope::Namespaced, names::dns1123_subdomain);
    let at = FieldPath::new("spec");
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    errors.extend(annotations(
        Some(&pod.metadata),
        spec,
        &FieldPath::new("metadata.annotations"),
    ));
    errors.extend(validate_spec(text(&pod.metadata.name), spec, Of::Pod, &at));
    if text(&spec.service_account_name).is_empty() {
        for (i, volume) in spec.volumes.iter().flatten().enumerate() {
            let sources = volume
                .projected
                .iter()
                .flat_map(|p| p.sources.iter().flatten())
                .enumerate();
            for (j, _) in sources.filter(|(_, s)| s.service_account_token.is_some()) {
                let at = at
                    .child("volumes")
                    .index(i)
                    .child("projected.sources")
                    .index(j);
                errors.push(FieldError::forbidden(
                    &at.child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                ));
            }
        }
    }
    for (name, containers) in [
        ("containers", spec.containers.as_slice()),
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ] {
        for (i, container) in containers.iter().enumerate() {
            errors.extend(container::only_for_pod(container, &at.child(name).index(i)));
        }
    }
    errors
}

/// A template: annotations with a meaning for pods, and the spec.
pub(super) fn template(template: &PodTemplateSpec, at: &FieldPath) -> Vec<FieldError> {
    let none = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&none);
    let metadata = template.metadata.as_ref();
    let mut errors = annotations(metadata, spec, &at.child("annotations"));
    let at = at.child("spec");
    errors.extend(validate_spec("", spec, Of::Template, &at));
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|e| !e.is_empty())
    {
        errors.push(FieldError::forbidden(
            &at.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

fn annotations(metadata: Option<&ObjectMeta>, spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let annotations = metadata.and_then(|m| m.annotations.as_ref());
    if let Some(value) = annotations.and_then(|a| a.get(MIRROR))
        && text(&spec.node_name).is_empty()
    {
        errors.push(FieldError::invalid(
            &at.key(MIRROR),
            value,
            "must set spec.nodeName if mirror pod annotation is set",
        ));
    }
    if let Some(value) = annotations.and_then(|a| a.get(DELETION_COST))
        && (value.parse::<i32>().is_err() || value.starts_with('+'))
    {
        errors.push(FieldError::invalid(
            &at.key(DELETION_COST),
            value,
            "must be a 32bit integer",
        ));
    }
    errors
}

/// What a spec is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Pod,
    /// What depends on the pod's name is not known yet, and some defaults are not set yet.
    Template,
}

fn validate_spec(pod_name: &str, spec: &PodSpec, of: Of, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(FieldError::required(
            &at.child("terminationGracePeriodSeconds"),
            "",
        ));
    }
    let known = volumes::validate(spec, pod_name, &at.child("volumes"), &mut errors);
    let claims: BTreeSet<&str> = spec
        .resource_claims
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .filter(|n| !n.is_empty())
        .collect();
    errors.extend(resource_claims(spec, at));
    let mut by_name = BTreeMap::new();
    for volume in spec.volumes.iter().flatten() {
        by_name.entry(volume.name.as_str()).or_insert(volume);
    }
    let context = container::Context {
        spec,
        volumes: &known,
        all_volumes: &by_name,
        claims: &claims,
    };
    errors.extend(container::regular(&context, &at.child("containers")));
    errors.extend(container::init(&context, &at.child("initContainers")));
    errors.extend(container::ephemeral(
        &context,
        &at.child("ephemeralContainers"),
    ));
    errors.extend(pod_resources(spec, at));
    errors.extend(host::network_ports(spec, of, at));
    one_of(
        &mut errors,
        &at.child("restartPolicy"),
        text(&spec.restart_policy),
        &["Always", "OnFailure", "Never"],
    );
    one_of(
        &mut errors,
        &at.child("dnsPolicy"),
        text(&spec.dns_policy),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    if let Some(selector) = &spec.node_selector {
        errors.extend(meta::validate_labels(selector, &at.child("nodeSelector")));
    }
    errors.extend(security::pod(spec, &at.child("securityContext")));
    errors.extend(affinity::validate(
        spec.affinity.as_ref(),
        &at.child("affinity"),
    ));
    errors.extend(network::dns_config(spec, &at.child("dnsConfig")));
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let at = at.child("readinessGates").index(i).child("conditionType");
        let name = &gate.condition_type;
        meta::extend_invalid(&mut errors, &at, name, names::qualified_name(name));
    }
    let mut gates = HashSet::new();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = at.child("schedulingGates").index(i);
        meta::extend_invalid(
            &mut errors,
            &at,
            &gate.name,
            names::qualified_name(&gate.name),
        );
        if !gates.insert(gate.name.as_str()) {
            errors.push(FieldError::duplicate(&at, &gate.name));
        }
    }
    errors.extend(spread::validate(
        spec,
        &at.child("topologySpreadConstraints"),
    ));
    errors.extend(host::users(spec, at));
    errors.extend(host::names(spec, at));
    errors.extend(simple_fields(spec, at));
    errors.extend(host::operating_system(spec, at));
    errors
}

/// The fields of a spec that stand alone.
fn simple_fields(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in [
        ("serviceAccountName", text(&spec.service_account_name)),
        ("nodeName", text(&spec.node_name)),
        ("priorityClassName", text(&spec.priority_class_name)),
    ] {
        if !value.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &at.child(name),
                value,
                names::dns1123_subdomain(value),
            );
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(
            &at.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (name, value) in [
        ("hostname", text(&spec.hostname)),
        ("subdomain", text(&spec.subdomain)),
    ] {
        if !value.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &at.child(name),
                value,
                names::dns1123_label(value),
            );
        }
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    errors.extend(toleration::validate(tolerations, &at.child("tolerations")));
    errors.extend(network::host_aliases(spec, &at.child("hostAliases")));
    if let Some(class) = &spec.runtime_class_name {
        meta::extend_invalid(
            &mut errors,
            &at.child("runtimeClassName"),
            class,
            names::dns1123_subdomain(class),
        );
    }
    if let Some(policy) = &spec.preemption_policy {
        let at = at.child("preemptionPolicy");
        one_of(&mut errors, &at, policy, &["PreemptLowerPriority", "Never"]);
    }
    if spec.overhead.is_some() {
        errors.extend(resource_list::validate_requirements(
            spec.overhead.as_ref(),
            None,
            Holder::Container,
            &at.child("overhead"),
        ));
    }
    errors
}

fn resource_claims(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names_before = HashSet::new();
    for (i, claim) in spec.resource_claims.iter().flatten().enumerate() {
        let at = at.child("resourceClaims").index(i);
        let is_first = names_before.insert(claim.name.as_str());
        if claim.name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if !is_first {
            errors.push(FieldError::duplicate(&at.child("name"), &claim.name));
        } else {
            meta::extend_invalid(
                &mut errors,
                &at.child("name"),
                &claim.name,
                names::dns1123_label(&claim.name),
            );
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &at,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (None, None) => errors.push(FieldError::invalid(
                &at,
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            (Some(_), None) | (None, Some(_)) => {}
        }
        for (name, value) in [
            ("resourceClaimName", &claim.resource_claim_name),
            (
                "resourceClaimTemplateName",
                &claim.resource_claim_template_name,
            ),
        ] {
            if let Some(value) = value {
                meta::extend_invalid(
                    &mut errors,
                    &at.child(name),
                    value,
                    names::dns1123_subdomain(value),
                );
            }
        }
    }
    errors
}

/// Resources of the pod as a whole, against those of its containers.
fn pod_resources(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let Some(own) = &spec.resources else {
        return Vec::new();
    };
    let at = at.child("resources");
    let mut errors = Vec::new();
    if own.claims.is_some() {
        errors.push(FieldError::forbidden(
            &at.child("claims"),
            "claims may not be set for Resources at pod-level",
        ));
    }
    errors.extend(resource_list::validate_requirements(
        own.limits.as_ref(),
        own.requests.as_ref(),
        Holder::Pod,
        &at,
    ));
    let requests = resources::amounts(own.requests.as_ref());
    for (name, sum) in resources::containers_requests(spec) {
        if let Some(request) = requests.get(&name).filter(|r| sum > **r) {
            errors.push(FieldError::invalid(
                &at.child("requests").key(&name),
                request,
                format!("must be greater than or equal to aggregate container requests of {sum}"),
            ));
        }
    }
    let limits = resources::amounts(own.limits.as_ref());
    for (name, sum) in resources::containers_limits(spec) {
        if let Some(limit) = limits
            .get(&name)
            .filter(|l| resource_list::is_huge_page(&name) && sum > **l)
        {
            errors.push(FieldError::invalid(
                &at.child("limits").key(&name),
                limit,
                format!("must be greater than or equal to aggregate container limits of {sum}"),
            ));
        }
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let own_limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        for (name, limit) in resources::amounts(own_limits) {
            if let Some(of_pod) = limits.get(&name).filter(|l| limit > **l) {
                errors.push(FieldError::invalid(
                    &at.child("containers").index(i).key(&name).child("limits"),
                    &limit,
                    format!("must be less than or equal to pod limits of {of_pod}"),
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests;
