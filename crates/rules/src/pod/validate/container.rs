//! The containers of a pod: what all share, and what each of the three lists adds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{
    Container, ContainerResizePolicy, PodSpec, ResourceClaim, Volume,
};

use super::{Volumes, environment, mounts, network, one_of, probe, required, security, text};
use berth_core::container::{as_container, is_sidecar};
use berth_core::meta;
use berth_core::resource_list::{self, Holder};

/// What a container is checked against.
pub(super) struct Context<'p> {
    pub(super) spec: &'p PodSpec,
    /// Those that are right: what is not cannot be mounted.
    pub(super) volumes: &'p Volumes<'p>,
    /// All of them.
    pub(super) all_volumes: &'p BTreeMap<&'p str, &'p Volume>,
    pub(super) claims: &'p BTreeSet<&'p str>,
}

/// What pods demand beyond what templates do.
pub(super) fn only_for_pod(c: &Container, at: &FieldPath) -> Option<FieldError> {
    let image = text(&c.image);
    (image.trim().len() != image.len()).then(|| {
        FieldError::invalid(
            &at.child("image"),
            image,
            "must not have leading or trailing whitespace",
        )
    })
}

pub(super) fn regular(context: &Context<'_>, at: &FieldPath) -> Vec<FieldError> {
    let containers = &context.spec.containers;
    if containers.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (i, c) in containers.iter().enumerate() {
        let at = at.index(i);
        errors.extend(common(context, c, &at));
        if !names.insert(c.name.as_str()) {
            errors.push(FieldError::duplicate(&at.child("name"), &c.name));
        }
        errors.extend(probe::all(context.spec, c, &at));
        errors.extend(restart_policy(c, &at));
    }
    errors.extend(host_port_conflicts(containers, at));
    errors
}

pub(super) fn init(context: &Context<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken: BTreeSet<&str> = context
        .spec
        .containers
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    for (i, c) in context.spec.init_containers.iter().flatten().enumerate() {
        let at_list = at;
        let at = at.index(i);
        errors.extend(common(context, c, &at));
        if c.restart_policy.is_some() {
            if is_sidecar(c) {
                if c.restart_policy_rules
                    .as_ref()
                    .is_some_and(|r| !r.is_empty())
                {
                    errors.push(FieldError::forbidden(
                        &at.child("restartPolicyRules"),
                        "restartPolicyRules are not allowed for init containers with restart policy Always",
                    ));
                }
            } else {
                errors.extend(restart_policy(c, &at));
            }
        }
        if !taken.insert(&c.name) && !c.name.is_empty() {
            errors.push(FieldError::duplicate(&at.child("name"), &c.name));
        }
        // Init containers run one by one, so each is checked alone.
        errors.extend(host_port_conflicts(std::slice::from_ref(c), at_list));
        if is_sidecar(c) {
            errors.extend(probe::all(context.spec, c, &at));
        } else {
            for (name, set) in [
                ("lifecycle", c.lifecycle.is_some()),
                ("livenessProbe", c.liveness_probe.is_some()),
                ("readinessProbe", c.readiness_probe.is_some()),
                ("startupProbe", c.startup_probe.is_some()),
            ] {
                if set {
                    errors.push(FieldError::forbidden(
                        &at.child(name),
                        "may not be set for init containers without restartPolicy=Always",
                    ));
                }
            }
            if c.resize_policy.as_ref().is_some_and(|r| !r.is_empty()) {
                errors.push(FieldError::invalid(
                    &at.child("resizePolicy"),
                    &c.resize_policy,
                    "must not be set for init containers",
                ));
            }
        }
    }
    errors
}

pub(super) fn ephemeral(context: &Context<'_>, at: &FieldPath) -> Vec<FieldError> {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let mut errors = Vec::new();
    let spec = context.spec;
    let others: BTreeSet<&str> = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|c| c.name.as_str())
        .collect();
    let mut taken = others.clone();
    for (i, ephemeral) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let at = at.index(i);
        let c = as_container(ephemeral.clone());
        errors.extend(common(context, &c, &at));
        errors.extend(only_for_pod(&c, &at));
        if !taken.insert(&ephemeral.name) {
            errors.push(FieldError::duplicate(&at.child("name"), &c.name));
        }
        let target = text(&ephemeral.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            errors.push(FieldError::not_found(
                &at.child("targetContainerName"),
                target,
            ));
        }
        let resources = c.resources.as_ref();
        for (name, set) in [
            ("ports", c.ports.as_ref().is_some_and(|p| !p.is_empty())),
            (
                "resources",
                resources.is_some_and(|r| {
                    r.limits.is_some() || r.requests.is_some() || r.claims.is_some()
                }),
            ),
            (
                "resizePolicy",
                c.resize_policy.as_ref().is_some_and(|r| !r.is_empty()),
            ),
            ("restartPolicy", c.restart_policy.is_some()),
            ("restartPolicyRules", c.restart_policy_rules.is_some()),
            ("lifecycle", c.lifecycle.is_some()),
            ("livenessProbe", c.liveness_probe.is_some()),
            ("readinessProbe", c.readiness_probe.is_some()),
            ("startupProbe", c.startup_probe.is_some()),
        ] {
            if set {
                errors.push(FieldError::forbidden(&at.child(name), FORBIDDEN));
            }
        }
        for (j, mount) in c.volume_mounts.iter().flatten().enumerate() {
            let at = at.child("volumeMounts").index(j);
            for (name, value) in [
                ("subPath", &mount.sub_path),
                ("subPathExpr", &mount.sub_path_expr),
            ] {
                if !text(value).is_empty() {
                    errors.push(FieldError::forbidden(&at.child(name), FORBIDDEN));
                }
            }
        }
    }
    errors
}

fn common(context: &Context<'_>, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if c.name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        meta::extend_invalid(
            &mut errors,
            &at.child("name"),
            &c.name,
            names::dns1123_label(&c.name),
        );
    }
    required(&mut errors, &at.child("image"), text(&c.image));
    one_of(
        &mut errors,
        &at.child("terminationMessagePolicy"),
        text(&c.termination_message_policy),
        &["File", "FallbackToLogsOnError"],
    );
    errors.extend(network::container_ports(c, &at.child("ports")));
    errors.extend(environment::variables(context, c, &at.child("env")));
    errors.extend(environment::sources(c, &at.child("envFrom")));
    errors.extend(mounts::volume_mounts(
        context.volumes,
        c,
        &at.child("volumeMounts"),
    ));
    errors.extend(mounts::devices(
        context.volumes,
        c,
        &at.child("volumeDevices"),
    ));
    one_of(
        &mut errors,
        &at.child("imagePullPolicy"),
        text(&c.image_pull_policy),
        &["Always", "IfNotPresent", "Never"],
    );
    if let Some(resources) = &c.resources {
        let at = at.child("resources");
        errors.extend(resource_list::validate_requirements(
            resources.limits.as_ref(),
            resources.requests.as_ref(),
            Holder::Container,
            &at,
        ));
        let claims = resources.claims.as_deref().unwrap_or_default();
        errors.extend(claim_names(context, claims, &at.child("claims")));
    }
    let policies = c.resize_policy.as_deref().unwrap_or_default();
    errors.extend(resize(
        policies,
        text(&context.spec.restart_policy),
        &at.child("resizePolicy"),
    ));
    errors.extend(security::container(
        context.spec,
        c,
        &at.child("securityContext"),
    ));
    errors
}

fn claim_names(context: &Context<'_>, claims: &[ResourceClaim], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut before: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (i, claim) in claims.iter().enumerate() {
        let at = at.index(i);
        if claim.name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let request = text(&claim.request);
        // A claim as a whole, which names no request, overlaps with each of its requests.
        let requests = before.entry(&claim.name).or_default();
        let overlaps = requests.contains("")
            || requests.contains(request)
            || (request.is_empty() && !requests.is_empty());
        requests.insert(request);
        if overlaps {
            errors.push(FieldError::duplicate(&at, &claim.name));
        }
        if !request.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &at.child("request"),
                request,
                names::dns1123_label(request),
            );
        }
        if !context.claims.contains(claim.name.as_str()) {
            errors.push(FieldError::not_found(&at, &claim.name));
        }
    }
    errors
}

fn resize(
    policies: &[ContainerResizePolicy],
    pod_restart: &str,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (i, policy) in policies.iter().enumerate() {
        if !names.insert(policy.resource_name.as_str()) {
            errors.push(FieldError::duplicate(&at.index(i), &policy.resource_name));
        }
        one_of(&mut errors, at, &policy.resource_name, &["cpu", "memory"]);
        one_of(
            &mut errors,
            at,
            &policy.restart_policy,
            &["NotRequired", "RestartContainer"],
        );
        if pod_restart == "Never" && policy.restart_policy != "NotRequired" {
            errors.push(FieldError::invalid(
                at,
                &policy.restart_policy,
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            ));
        }
    }
    errors
}

/// `restartPolicy` and its rules, of containers that are no sidecars.
fn restart_policy(c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rules = c.restart_policy_rules.as_deref().unwrap_or_default();
    match &c.restart_policy {
        None if rules.is_empty() => return errors,
        None => errors.push(FieldError::required(
            &at.child("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        )),
        Some(policy) if !matches!(policy.as_str(), "Always" | "Never" | "OnFailure") => {
            errors.push(FieldError::not_supported(
                &at.child("restartPolicy"),
                policy,
                &["Always", "Never", "OnFailure"],
            ));
        }
        Some(_) => {}
    }
    let at = at.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_long(&at, 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        if !matches!(rule.action.as_str(), "Restart" | "RestartAllContainers") {
            errors.push(FieldError::not_supported(
                &at.child("action"),
                &rule.action,
                &["Restart"],
            ));
        }
        match &rule.exit_codes {
            None => errors.push(FieldError::required(
                &at.child("exitCodes"),
                "must be specified",
            )),
            Some(codes) => {
                let at = at.child("exitCodes");
                if !matches!(codes.operator.as_str(), "In" | "NotIn") {
                    errors.push(FieldError::not_supported(
                        &at.child("operator"),
                        &codes.operator,
                        &["In", "NotIn"],
                    ));
                }
                if codes.values.as_ref().is_some_and(|v| v.len() > 255) {
                    errors.push(FieldError::too_long(&at.child("values"), 255));
                }
            }
        }
    }
    errors
}

fn host_port_conflicts(containers: &[Container], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, port) in c.ports.iter().flatten().enumerate() {
            let number = port.host_port.unwrap_or(0);
            let what = format!("{}/{}/{number}", text(&port.protocol), text(&port.host_ip));
            if number != 0 && !taken.insert(what.clone()) {
                let at = at.index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::duplicate(&at, what));
            }
        }
    }
    errors
}
