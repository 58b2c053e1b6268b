//! A container's environment: literal values, fields, resources, config maps and secrets, with
//! `$(NAME)` expanded in the order of the list; and Services, where nothing else has the name.

mod expand;
mod field;
mod links;

use std::collections::{BTreeMap, HashMap};

use berth_cri_api::v1::KeyValue;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use crate::agent::Agent;
use crate::objects::LookupError;
use crate::services::NotRead;

pub(crate) use expand::{Room, TooLarge, expand};
pub(crate) use field::{field, resource};

/// Why an environment cannot be made; the container waits with `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Services(#[from] NotRead),
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
    #[error("a program cannot be started with this environment or command: {0}")]
    TooLarge(#[from] TooLarge),
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
    let mut all = Environment::default();
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    // The API server sets it in every pod; a pod of another source is told of no more than it asks for.
    let links = spec.and_then(|s| s.enable_service_links) == Some(true);
    let services = if agent.is_static(pod) {
        agent.services.known_now(ns, links)
    } else {
        agent.services.of_pod(ns, links).await?
    };
    all.services = links::variables(&services).into_iter().collect();
    from_sources(agent, ns, container, &mut all).await?;
    for var in container.env.iter().flatten() {
        all.services.remove(&var.name);
        let value = match (&var.value_from, &var.value) {
            (Some(source), _) => {
                match from_source(agent, pod, container, addresses, &var.name, source).await? {
                    Some(value) => value,
                    None => continue,
                }
            }
            (None, Some(value)) => all.expand(value)?,
            (None, None) => String::new(),
        };
        all.put(var.name.clone(), value)?;
    }
    for (name, value) in std::mem::take(&mut all.services) {
        if !all.places.contains_key(&name) {
            all.put(name, value)?;
        }
    }
    Ok(all.list)
}

/// Variables in their order, no more of them than a program can have.
struct Environment {
    list: Vec<(String, String)>,
    /// Where in the list a name is.
    places: HashMap<String, usize>,
    /// What Services say; it counts where nothing else has the name.
    services: BTreeMap<String, String>,
    room: Room,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            places: HashMap::new(),
            services: BTreeMap::new(),
            room: Room::of_program(),
        }
    }
}

impl Environment {
    fn expand(&self, text: &str) -> Result<String, TooLarge> {
        let find = |name: &str| match self.places.get(name) {
            Some(place) => Some(self.list[*place].1.as_str()),
            None => self.services.get(name).map(String::as_str),
        };
        // What comes about is counted when it is put in.
        expand(text, find, &mut self.room.clone())
    }

    /// Adds one, or replaces its value.
    fn put(&mut self, name: String, value: String) -> Result<(), TooLarge> {
        // `NAME=VALUE` and its end, and a pointer to it.
        let size = |value: &str| name.len() + value.len() + 10;
        match self.places.get(&name) {
            Some(place) => {
                let old = &mut self.list[*place].1;
                self.room.give(size(old));
                self.room.take(size(&value))?;
                *old = value;
            }
            None => {
                self.room.take(size(&value))?;
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
        Ok(())
    }
}

/// The variables by name.
pub(crate) fn by_name(list: &[(String, String)]) -> HashMap<&str, &str> {
    let pairs = list
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.collect()
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

async fn from_sources(
    agent: &Agent,
    ns: &str,
    container: &Container,
    all: &mut Environment,
) -> Result<(), EnvError> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |key: String, value: String| all.put(format!("{prefix}{key}"), value);
        if let Some(r) = &source.config_map_ref {
            let found = optional(agent.objects.config_map(ns, &r.name).await, r.optional)?;
            for (k, v) in found.and_then(|m| m.data).unwrap_or_default() {
                add(k, v)?;
            }
        }
        if let Some(r) = &source.secret_ref {
            let found = optional(agent.objects.secret(ns, &r.name).await, r.optional)?;
            for (k, v) in found.and_then(|s| s.data).unwrap_or_default() {
                add(k, String::from_utf8_lossy(&v.0).into_owned())?;
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_multiply_each_other_end_with_an_error() {
        let mut all = Environment::default();
        all.put("V0".to_owned(), "x".repeat(10)).unwrap();
        let ended = (1..40).find_map(|n| {
            let text = format!("$(V{})", n - 1).repeat(10);
            let value = match all.expand(&text) {
                Ok(value) => value,
                Err(error) => return Some(error),
            };
            all.put(format!("V{n}"), value).err()
        });
        assert!(ended.is_some());
        let bytes: usize = all.list.iter().map(|(_, value)| value.len()).sum();
        assert!(bytes < 7 << 20, "{bytes}");
    }

    #[test]
    fn what_services_say_is_expanded_unless_something_else_has_the_name() {
        let mut all = Environment::default();
        let services = [("WEB_SERVICE_HOST", "10.0.0.1"), ("OWN", "service")];
        all.services = services.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        all.put("OWN".to_owned(), "mine".to_owned()).unwrap();
        let text = all.expand("$(WEB_SERVICE_HOST) $(OWN) $(NONE)").unwrap();
        assert_eq!(text, "10.0.0.1 mine $(NONE)");
    }

    #[test]
    fn many_variables_are_many_and_no_more() {
        let mut all = Environment::default();
        let begun = std::time::Instant::now();
        let refused = (0..1_000_000).find(|n| all.put(format!("N{n}"), String::new()).is_err());
        assert!(
            (200_000..700_000).contains(&refused.unwrap()),
            "{refused:?}"
        );
        assert!(begun.elapsed().as_secs() < 20);
        // The same ones again take no more.
        for _ in 0..3 {
            (0..1000).for_each(|n| all.put(format!("N{n}"), String::new()).unwrap());
        }
        assert_eq!(by_name(&all.list).get("N7"), Some(&""));
    }
}
