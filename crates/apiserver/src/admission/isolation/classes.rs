//! RuntimeClasses: none is made or changed so that pods and namespaces that count on it get less than they demand.
//!
//! A class' handler never changes, but what it declares does, and a class can be deleted and made again. Nodes look the handler
//! up by the class's name whenever they make a sandbox.

use std::collections::BTreeMap;

use berth_api::status::ApiError;
use berth_core::isolation::{DECLARED, Isolation, MINIMUM, RunsBy, Unclear, level, reaches};
use berth_rules::admission::namespace_policy;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::namespaces::{field_error, written};
use super::{MinimumIsolation, NAMESPACES};
use crate::admission::{Attributes, Operation};

/// So many namespaces are named.
const MAX_NAMED: usize = 5;

/// How a namespace counts on a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reliance {
    /// Its pods that run by it.
    pods: usize,
    /// Its policy names it.
    policy: bool,
}

impl MinimumIsolation {
    pub(super) fn validate_class(
        &self,
        attributes: &Attributes<'_>,
        class: &RuntimeClass,
    ) -> Result<(), ApiError> {
        let old = match attributes.operation {
            Operation::Update => attributes.old.map(|old| old.metadata()),
            Operation::Create | Operation::Delete | Operation::Connect => None,
        };
        let declared = written(&class.metadata, old, DECLARED).map_err(|unclear| {
            let errors = vec![field_error(&unclear)];
            ApiError::invalid("node.k8s.io", "RuntimeClass", attributes.name, errors)
        })?;
        if old.is_some_and(|old| level(old, DECLARED) == level(&class.metadata, DECLARED)) {
            return Ok(());
        }
        let runs_by = RunsBy {
            class: attributes.name,
            handler: &class.handler,
            declared,
        };
        let is_new = old.is_none();
        let mut refused = Vec::new();
        for (name, demand, reliance) in self.relying(attributes.name)? {
            let nodes = self.nodes.all()?;
            if reaches(runs_by, demand, nodes.iter().map(AsRef::as_ref)).is_ok() {
                continue;
            }
            let by = match &reliance {
                Reliance { pods: 0, .. } => "its policy names the class".to_owned(),
                Reliance { pods, .. } => format!("{pods} pod(s)"),
            };
            let text = format!("{name:?} (at least {demand}, {by})");
            // Of a class that was not there no pod of a policy could rely on anything yet.
            if is_new && reliance.pods == 0 {
                attributes.warn(format!(
                    "RuntimeClass {:?} is weaker than what namespace {text} demands, which will reject its pods",
                    attributes.name
                ));
            } else {
                refused.push(text);
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let more = refused.len().saturating_sub(MAX_NAMED);
        refused.truncate(MAX_NAMED);
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Err(attributes.forbidden(format!(
            "it would be weaker than what namespaces that use it demand (annotation {MINIMUM}): {}{more}; move their pods to \
             another class first, or declare what the handler is by the annotation {DECLARED}",
            refused.join(", "),
        )))
    }

    /// The namespaces that demand more than every handler has and count on a class, and what they demand.
    fn relying(&self, class: &str) -> Result<Vec<(String, Isolation, Reliance)>, ApiError> {
        let mut found: BTreeMap<String, (Isolation, Reliance)> = BTreeMap::new();
        for stored in self.storage.list(NAMESPACES, None) {
            let namespace = stored.shared::<Namespace>()?;
            let demand = match level(&namespace.metadata, MINIMUM) {
                Ok(None | Some(Isolation::Process)) => None,
                Ok(Some(demand)) => Some(demand),
                // What can't be read demands all that there is.
                Err(_) => Some(Isolation::Vm),
            };
            let annotations = namespace.metadata.annotations.clone().unwrap_or_default();
            let names = |key: &str| {
                let list = annotations.get(key).map_or("", String::as_str);
                list.split(',').any(|name| name.trim() == class)
            };
            let policy = names(namespace_policy::DEFAULT) || names(namespace_policy::ALLOWED);
            for stored in self.storage.list("core/pods", Some(&stored.name)) {
                // Most pods don't have the name anywhere, and there may be a hundred thousand.
                if std::str::from_utf8(&stored.bytes).is_ok_and(|text| !text.contains(class)) {
                    continue;
                }
                // One that cannot be read was reported; it does not run.
                let Ok(pod) = stored.decode::<Pod>() else {
                    continue;
                };
                let spec = pod.spec.as_ref();
                let named = spec.and_then(|spec| spec.runtime_class_name.as_deref());
                if named != Some(class) || berth_core::pod::is_finished(&pod) {
                    continue;
                }
                // Its own demand: that of the namespace when it was made, or more.
                let own = match level(&pod.metadata, MINIMUM) {
                    Ok(own) => own,
                    // A label demands nothing, and who may write pods could put one there.
                    Err(Unclear::Label(_)) => None,
                    Err(Unclear::Value { .. }) => Some(Isolation::Vm),
                };
                let Some(demand) = demand.max(own).filter(|d| *d > Isolation::Process) else {
                    continue;
                };
                let name = stored.namespace.to_string();
                let entry = found.entry(name).or_insert((demand, Reliance::default()));
                entry.0 = entry.0.max(demand);
                entry.1.pods += 1;
            }
            if let Some(demand) = demand.filter(|_| policy) {
                let name = stored.name.to_string();
                let entry = found.entry(name).or_insert((demand, Reliance::default()));
                entry.1.policy = true;
            }
        }
        Ok(found
            .into_iter()
            .map(|(name, (demand, reliance))| (name, demand, reliance))
            .collect())
    }
}
