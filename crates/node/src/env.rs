//! A container's environment: literal values, fields, resources, config maps and secrets, with
//! `$(NAME)` expanded in the order of the list.

mod expand;
mod field;

use std::collections::BTreeMap;

use berth_cri_api::v1::KeyValue;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use crate::agent::Agent;
use crate::objects::LookupError;

pub(crate) use expand::expand;
pub(crate) use field::{field, resource};

/// Why an environment cannot be made; the container waits with `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key {
        key: String,
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("field {0:?} is not supported in the environment")]
    Field(String),
    #[error("resource {0:?} cannot be read: {1}")]
    Resource(String, String),
    #[error("environment variable {0:?} has a source that this node does not support")]
    Source(String),
}

/// Addresses that fields may ask for.
pub(crate) struct Addresses<'a> {
    pub(crate) pod_ips: &'a [String],
    pub(crate) host_ips: &'a [String],
}

/// Resolves everything, in the spec's order; later names replace earlier ones.
pub(crate) async fn environment(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    addresses: &Addresses<'_>,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    for (name, value) in from_sources(agent, ns, container).await? {
        put(&mut list, &mut known, name, value);
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value_from, &var.value) {
            (Some(source), _) => {
                match from_source(agent, pod, container, addresses, &var.name, source).await? {
                    Some(value) => value,
                    None => continue,
                }
            }
            (None, Some(value)) => expand(value, |name| known.get(name).cloned()),
            (None, None) => String::new(),
        };
        put(&mut list, &mut known, var.name.clone(), value);
    }
    Ok(list)
}

/// As CRI wants it.
pub(crate) fn key_values(list: Vec<(String, String)>) -> Vec<KeyValue> {
    list.into_iter()
        .map(|(key, value)| KeyValue {
            key,
            value: value.into_bytes(),
        })
        .collect()
}

fn put(
    list: &mut Vec<(String, String)>,
    known: &mut BTreeMap<String, String>,
    name: String,
    value: String,
) {
    known.insert(name.clone(), value.clone());
    match list.iter_mut().find(|(n, _)| *n == name) {
        Some((_, old)) => *old = value,
        None => list.push((name, value)),
    }
}

async fn from_sources(
    agent: &Agent,
    ns: &str,
    container: &Container,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut out = Vec::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |key: String, value: String| out.push((format!("{prefix}{key}"), value));
        if let Some(r) = &source.config_map_ref {
            let found = optional(agent.objects.config_map(ns, &r.name).await, r.optional)?;
            for (k, v) in found.and_then(|m| m.data).unwrap_or_default() {
                add(k, v);
            }
        }
        if let Some(r) = &source.secret_ref {
            let found = optional(agent.objects.secret(ns, &r.name).await, r.optional)?;
            for (k, v) in found.and_then(|s| s.data).unwrap_or_default() {
                add(k, String::from_utf8_lossy(&v.0).into_owned());
            }
        }
    }
    Ok(out)
}

/// A missing object is fine when the reference says so.
pub(crate) fn optional<T>(
    found: Result<T, LookupError>,
    optional: Option<bool>,
) -> Result<Option<T>, LookupError> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(LookupError::Missing { .. }) if optional == Some(true) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn from_source(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    addresses: &Addresses<'_>,
    name: &str,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvError> {
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let missing = |key: &str, kind, name: &str| EnvError::Key {
        key: key.to_owned(),
        kind,
        namespace: ns.to_owned(),
        name: name.to_owned(),
    };
    if let Some(f) = &source.field_ref {
        let value = field(pod, &f.field_path, addresses, &agent.config.node_name);
        return value
            .map(Some)
            .ok_or_else(|| EnvError::Field(f.field_path.clone()));
    }
    if let Some(r) = &source.resource_field_ref {
        let allocatable = crate::registration::allocatable(agent);
        return resource(pod, Some(container), r, &allocatable).map(Some);
    }
    if let Some(r) = &source.config_map_key_ref {
        let map = optional(agent.objects.config_map(ns, &r.name).await, r.optional)?;
        let value = map.and_then(|m| m.data).and_then(|mut d| d.remove(&r.key));
        return match value {
            None if r.optional != Some(true) => Err(missing(&r.key, "ConfigMap", &r.name)),
            value => Ok(value),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let secret = optional(agent.objects.secret(ns, &r.name).await, r.optional)?;
        let value = secret
            .and_then(|s| s.data)
            .and_then(|mut d| d.remove(&r.key))
            .map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return match value {
            None if r.optional != Some(true) => Err(missing(&r.key, "Secret", &r.name)),
            value => Ok(value),
        };
    }
    Err(EnvError::Source(name.to_owned()))
}
