//! From the slices that are there to those that have to be, with as few writes as it takes.
//!
//! Endpoints stay in the slice in which they are. New ones go where there is room: into slices that are written anyway, then
//! into others, then into new ones. A slice that would go becomes one that would be made, if there is one of the same
//! address type.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::TRIGGER_TIME;

/// What all slices of one object have in common.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Namespace, `generateName`, labels and owner.
    pub metadata: ObjectMeta,
    /// Annotations, apart from the time of the change.
    pub annotations: BTreeMap<String, String>,
    /// When what changed changed.
    pub trigger_time: Option<String>,
    /// Most endpoints of a slice.
    pub max_endpoints: usize,
    /// The address types that have an empty slice rather than none.
    pub placeholders: Vec<&'static str>,
}

/// Endpoints that can be in one slice: of one address type, with the same ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    address_type: String,
    ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What has to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Slices that are there, as they have to be.
    pub update: Vec<EndpointSlice>,
    /// Slices that have to go.
    pub delete: Vec<EndpointSlice>,
}

impl Group {
    /// Without endpoints yet.
    #[must_use]
    pub fn new(address_type: &str, ports: Vec<EndpointPort>) -> Self {
        Self {
            address_type: address_type.to_owned(),
            ports,
            endpoints: Vec::new(),
        }
    }

    /// The same for all that belong together.
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.address_type, &self.ports)
    }
}

fn key(address_type: &str, ports: &[EndpointPort]) -> String {
    let mut ports: Vec<String> = ports
        .iter()
        .map(|port| {
            let EndpointPort {
                app_protocol,
                name,
                port,
                protocol,
            } = port;
            format!("{name:?} {protocol:?} {port:?} {app_protocol:?}")
        })
        .collect();
    ports.sort();
    format!("{address_type} {}", ports.join(","))
}

/// What an endpoint is known by from one look to the next.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|r| r.uid.as_deref());
    format!(
        "{} {}",
        uid.unwrap_or_default(),
        endpoint.addresses.join(",")
    )
}

/// A slice on its way to what it has to be.
struct Slice {
    slice: EndpointSlice,
    changed: bool,
}

/// What has to be written so that there are these groups and nothing else.
#[must_use]
pub fn changes(template: &Template, groups: Vec<Group>, existing: &[&EndpointSlice]) -> Changes {
    let mut by_group: BTreeMap<String, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        let ports = slice.ports.as_deref().unwrap_or_default();
        let of_group = by_group.entry(key(&slice.address_type, ports));
        of_group.or_default().push(slice);
    }
    let mut changes = Changes::default();
    let mut kept: Vec<String> = Vec::new();
    for group in groups.into_iter().filter(|g| !g.endpoints.is_empty()) {
        let mine = by_group.remove(&group.key()).unwrap_or_default();
        kept.push(group.address_type.clone());
        group_changes(template, group, mine, &mut changes);
    }
    for address_type in &template.placeholders {
        if kept.iter().any(|kept| kept == address_type) {
            continue;
        }
        // One that is empty and has no ports is there already, mostly.
        let empty = by_group.get_mut(&key(address_type, &[]));
        match empty.and_then(Vec::pop) {
            Some(slice) => settle(
                template,
                slice.clone(),
                Vec::new(),
                false,
                &mut changes.update,
            ),
            None => changes
                .create
                .push(new_slice(template, address_type, Vec::new(), Vec::new())),
        }
    }
    let gone = by_group.into_values().flatten().cloned();
    changes.delete.extend(gone);
    reuse(&mut changes);
    changes
}

fn group_changes(
    template: &Template,
    group: Group,
    mine: Vec<&EndpointSlice>,
    changes: &mut Changes,
) {
    let mut wanted: BTreeMap<String, Endpoint> = group
        .endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    let mut slices: Vec<Slice> = Vec::new();
    for slice in mine {
        let mut changed = false;
        let mut endpoints = Vec::new();
        for old in slice.endpoints.iter().flatten() {
            // One that is in two slices stays in the first.
            match wanted.remove(&identity(old)) {
                Some(new) => {
                    changed |= new != *old;
                    endpoints.push(new);
                }
                None => changed = true,
            }
        }
        let mut slice = slice.clone();
        slice.endpoints = Some(endpoints);
        slices.push(Slice { slice, changed });
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    rest.reverse();
    // Those that are written anyway first.
    slices.sort_by_key(|slice| !slice.changed);
    for Slice { slice, changed } in &mut slices {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < template.max_endpoints
            && let Some(endpoint) = rest.pop()
        {
            endpoints.push(endpoint);
            *changed = true;
        }
    }
    for Slice { slice, changed } in slices {
        let endpoints = slice.endpoints.clone().unwrap_or_default();
        if endpoints.is_empty() {
            changes.delete.push(slice);
        } else {
            settle(template, slice, endpoints, changed, &mut changes.update);
        }
    }
    rest.reverse();
    for some in rest.chunks(template.max_endpoints.max(1)) {
        let slice = new_slice(
            template,
            &group.address_type,
            group.ports.clone(),
            some.to_vec(),
        );
        changes.create.push(slice);
    }
}

/// Writes a slice if it, its labels, annotations or owner are not what they have to be.
fn settle(
    template: &Template,
    mut slice: EndpointSlice,
    endpoints: Vec<Endpoint>,
    changed: bool,
    update: &mut Vec<EndpointSlice>,
) {
    let wanted = &template.metadata;
    let mut annotations = slice.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(TRIGGER_TIME);
    let same = slice.metadata.labels == wanted.labels
        && slice.metadata.owner_references == wanted.owner_references
        && annotations == template.annotations
        && slice.endpoints.as_deref().unwrap_or_default() == endpoints;
    if same && !changed {
        return;
    }
    dress(template, &mut slice.metadata);
    slice.endpoints = Some(endpoints);
    update.push(slice);
}

fn dress(template: &Template, metadata: &mut ObjectMeta) {
    metadata.labels.clone_from(&template.metadata.labels);
    metadata
        .owner_references
        .clone_from(&template.metadata.owner_references);
    let mut annotations = template.annotations.clone();
    if let Some(time) = &template.trigger_time {
        annotations.insert(TRIGGER_TIME.to_owned(), time.clone());
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
}

fn new_slice(
    template: &Template,
    address_type: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut metadata = template.metadata.clone();
    dress(template, &mut metadata);
    EndpointSlice {
        metadata,
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

/// Writes a slice that would go in place of one that would be made.
fn reuse(changes: &mut Changes) {
    for new in std::mem::take(&mut changes.create) {
        let same = |old: &EndpointSlice| old.address_type == new.address_type;
        let Some(at) = changes.delete.iter().position(same) else {
            changes.create.push(new);
            continue;
        };
        let mut old = changes.delete.swap_remove(at);
        old.metadata.labels = new.metadata.labels;
        old.metadata.annotations = new.metadata.annotations;
        old.metadata.owner_references = new.metadata.owner_references;
        old.endpoints = new.endpoints;
        old.ports = new.ports;
        changes.update.push(old);
    }
}
