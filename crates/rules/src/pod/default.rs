//! Defaults of a pod's unset fields.

use k8s_openapi::api::core::v1::{
    Container, HTTPGetAction, ObjectFieldSelector, Pod, PodSpec, Probe, ResourceRequirements,
    Volume,
};

use super::volume_kind;
use berth_core::container::as_container;
use berth_core::resource_list::{self, WireList};
use berth_core::resources;

const FILE_MODE: i32 = 0o644;

fn set<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

/// Unset or empty text.
fn set_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

fn set_number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(value);
    }
}

pub(super) fn pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    pod_spec(spec);
    omit_empty(spec);
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        requests_from_limits(container.resources.get_or_insert_default());
    }
    pod_level(spec);
    set(&mut spec.enable_service_links, true);
    if spec.host_network == Some(true) {
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            for port in container.ports.iter_mut().flatten() {
                set_number(&mut port.host_port, port.container_port);
            }
        }
    }
}

/// The spec of a template: what belongs to the pod as a whole is set when a pod is made from it.
pub(super) fn template(spec: &mut PodSpec) {
    pod_spec(spec);
    omit_empty(spec);
}

/// Empty lists and maps are as good as none, and not shown. Not so an overhead that a pod brings: admission looks at it.
fn omit_empty(spec: &mut PodSpec) {
    fn none<T>(list: &mut Option<Vec<T>>) {
        list.take_if(|list| list.is_empty());
    }
    none(&mut spec.ephemeral_containers);
    none(&mut spec.host_aliases);
    none(&mut spec.image_pull_secrets);
    none(&mut spec.init_containers);
    none(&mut spec.readiness_gates);
    none(&mut spec.resource_claims);
    none(&mut spec.scheduling_gates);
    none(&mut spec.tolerations);
    none(&mut spec.topology_spread_constraints);
    none(&mut spec.volumes);
    spec.node_selector.take_if(|selector| selector.is_empty());
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        none(&mut container.args);
        none(&mut container.command);
        none(&mut container.env);
        none(&mut container.env_from);
        none(&mut container.ports);
        none(&mut container.volume_devices);
        none(&mut container.volume_mounts);
        if let Some(resources) = &mut container.resources {
            none(&mut resources.claims);
            resources.limits.take_if(|limits| limits.is_empty());
            resources.requests.take_if(|requests| requests.is_empty());
        }
    }
}

fn pod_spec(spec: &mut PodSpec) {
    set_text(&mut spec.dns_policy, "ClusterFirst");
    set_text(&mut spec.restart_policy, "Always");
    set(&mut spec.security_context, Default::default());
    set(&mut spec.termination_grace_period_seconds, 30);
    set_text(&mut spec.scheduler_name, "default-scheduler");
    // The old name of the field says the same as the new one.
    if spec
        .service_account_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
    for c in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        container(c);
    }
    for ephemeral in spec.ephemeral_containers.iter_mut().flatten() {
        let mut c = as_container(ephemeral.clone());
        container(&mut c);
        ephemeral.image_pull_policy = c.image_pull_policy;
        ephemeral.termination_message_path = c.termination_message_path;
        ephemeral.termination_message_policy = c.termination_message_policy;
        ephemeral.resources = c.resources;
        ephemeral.env = c.env;
        ephemeral.ports = c.ports;
        ephemeral.liveness_probe = c.liveness_probe;
        ephemeral.readiness_probe = c.readiness_probe;
        ephemeral.startup_probe = c.startup_probe;
        ephemeral.lifecycle = c.lifecycle;
    }
    for v in spec.volumes.iter_mut().flatten() {
        volume(v);
    }
    if let Some(overhead) = spec.overhead.as_mut() {
        resource_list::round(overhead);
    }
    if let Some(resources) = spec.resources.as_mut() {
        round_requirements(resources);
    }
}

fn round_requirements(resources: &mut ResourceRequirements) {
    for list in [resources.limits.as_mut(), resources.requests.as_mut()]
        .into_iter()
        .flatten()
    {
        resource_list::round(list);
    }
}

fn container(c: &mut Container) {
    if c.image_pull_policy
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        c.image_pull_policy =
            Some(image_pull_policy(c.image.as_deref().unwrap_or_default()).to_owned());
    }
    set_text(&mut c.termination_message_path, "/dev/termination-log");
    set_text(&mut c.termination_message_policy, "File");
    for port in c.ports.iter_mut().flatten() {
        set_text(&mut port.protocol, "TCP");
    }
    for source in c
        .env
        .iter_mut()
        .flatten()
        .filter_map(|e| e.value_from.as_mut())
    {
        if let Some(field) = source.field_ref.as_mut() {
            field_selector(field);
        }
    }
    for p in [
        &mut c.liveness_probe,
        &mut c.readiness_probe,
        &mut c.startup_probe,
    ]
    .into_iter()
    .flatten()
    {
        probe(p);
    }
    if let Some(lifecycle) = c.lifecycle.as_mut() {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
            .into_iter()
            .flatten()
        {
            if let Some(http) = handler.http_get.as_mut() {
                http_get(http);
            }
        }
    }
    round_requirements(c.resources.get_or_insert_default());
}

fn probe(p: &mut Probe) {
    set_number(&mut p.timeout_seconds, 1);
    set_number(&mut p.period_seconds, 10);
    set_number(&mut p.success_threshold, 1);
    set_number(&mut p.failure_threshold, 3);
    if let Some(http) = p.http_get.as_mut() {
        http_get(http);
    }
    if let Some(grpc) = p.grpc.as_mut() {
        set(&mut grpc.service, String::new());
    }
}

fn http_get(http: &mut HTTPGetAction) {
    set_text(&mut http.path, "/");
    set_text(&mut http.scheme, "HTTP");
}

fn field_selector(field: &mut ObjectFieldSelector) {
    set_text(&mut field.api_version, "v1");
}

fn volume(v: &mut Volume) {
    if volume_kind::sources(v).is_empty() {
        v.empty_dir = Some(Default::default());
    }
    if let Some(secret) = v.secret.as_mut() {
        set(&mut secret.default_mode, FILE_MODE);
    }
    if let Some(map) = v.config_map.as_mut() {
        set(&mut map.default_mode, FILE_MODE);
    }
    if let Some(downward) = v.downward_api.as_mut() {
        set(&mut downward.default_mode, FILE_MODE);
        for field in downward
            .items
            .iter_mut()
            .flatten()
            .filter_map(|i| i.field_ref.as_mut())
        {
            field_selector(field);
        }
    }
    if let Some(projected) = v.projected.as_mut() {
        set(&mut projected.default_mode, FILE_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = source.service_account_token.as_mut() {
                set(&mut token.expiration_seconds, 3600);
            }
            let items = source
                .downward_api
                .iter_mut()
                .flat_map(|d| d.items.iter_mut().flatten());
            for field in items.filter_map(|i| i.field_ref.as_mut()) {
                field_selector(field);
            }
        }
    }
    if let Some(host) = v.host_path.as_mut() {
        set(&mut host.type_, String::new());
    }
    if let Some(iscsi) = v.iscsi.as_mut() {
        set_text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = v.rbd.as_mut() {
        set_text(&mut rbd.pool, "rbd");
        set_text(&mut rbd.user, "admin");
        set_text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(azure) = v.azure_disk.as_mut() {
        set(&mut azure.caching_mode, "ReadWrite".to_owned());
        set(&mut azure.fs_type, "ext4".to_owned());
        set(&mut azure.read_only, false);
        set(&mut azure.kind, "Shared".to_owned());
    }
    if let Some(scale) = v.scale_io.as_mut() {
        set_text(&mut scale.storage_mode, "ThinProvisioned");
        set_text(&mut scale.fs_type, "xfs");
    }
    if let Some(template) = v
        .ephemeral
        .as_mut()
        .and_then(|e| e.volume_claim_template.as_mut())
    {
        set(&mut template.spec.volume_mode, "Filesystem".to_owned());
    }
    if let Some(image) = v.image.as_mut()
        && image.pull_policy.as_deref().unwrap_or_default().is_empty()
    {
        let policy = image_pull_policy(image.reference.as_deref().unwrap_or_default());
        image.pull_policy = Some(policy.to_owned());
    }
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

/// Resources of the whole pod: requests follow from those of the containers, then from the limits.
fn pod_level(spec: &mut PodSpec) {
    let Some(own) = &spec.resources else {
        return;
    };
    let limits = own.limits.clone().unwrap_or_default();
    let requests = own.requests.clone().unwrap_or_default();
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let mut new_limits = limits;
    for (name, amount) in resources::containers_limits(spec) {
        if resource_list::is_huge_page(&name) && !requests.contains_key(&name) {
            new_limits.entry(name).or_insert_with(|| amount.into());
        }
    }
    let mut new_requests = requests;
    if !new_limits.is_empty() {
        for (name, amount) in resources::containers_requests(spec) {
            if matches!(name.as_str(), "cpu" | "memory") {
                new_requests.entry(name).or_insert_with(|| amount.into());
            }
        }
        for (name, limit) in &new_limits {
            if matches!(name.as_str(), "cpu" | "memory") || resource_list::is_huge_page(name) {
                new_requests
                    .entry(name.clone())
                    .or_insert_with(|| limit.clone());
            }
        }
    }
    let filled = |list: WireList| (!list.is_empty()).then_some(list);
    if let Some(own) = spec.resources.as_mut() {
        own.limits = filled(new_limits);
        own.requests = filled(new_requests);
    }
}

/// `Always` for an image of tag latest (or none, and no digest), else `IfNotPresent`; also for what is no
/// image reference at all.
#[must_use]
pub fn image_pull_policy(image: &str) -> &'static str {
    let (named, digested) = match image.split_once('@') {
        Some((named, _)) => (named, true),
        None => (image, false),
    };
    let (repository, tag) = match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (named, None),
    };
    let latest = tag == Some("latest") || (tag.is_none() && !digested);
    if latest && is_repository(repository) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Path components of lower case letters, digits and separators; the first may be a registry's host.
fn is_repository(text: &str) -> bool {
    let components: Vec<&str> = text.split('/').collect();
    components.iter().enumerate().all(|(i, component)| {
        let host = i == 0 && components.len() > 1;
        let inner = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'_' | b'-')
                || (host && (b.is_ascii_uppercase() || matches!(b, b':' | b'[' | b']')))
        };
        let edge = |b: Option<&u8>| {
            b.is_some_and(|b| b.is_ascii_alphanumeric() || (host && matches!(b, b'[' | b']')))
        };
        let bytes = component.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| inner(*b))
    })
}
