//! RuntimeClasses: none is created or changed so that pods and namespaces that rely on it get less isolation than they demand.
//!
//! A class's handler never changes, but what it declares does, and a class can be deleted and made again. Nodes look the handler
//! up by the class's name whenever they make a sandbox.

use std::collections::BTreeMap;

use berth_api::status::ApiError;
use berth_core::isolation::{DECLARED, Isolation, MINIMUM, RunsBy, Unclear, level, reaches};
use berth_rules::admission::namespace_policy;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use memchr::memmem;

use super::namespaces::{field_error, written};
use super::{MinimumIsolation, NAMESPACES};
use crate::admission::{Attributes, Operation};

/// How many namespaces a refusal names.
const MAX_NAMED: usize = 5;

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
        let relying = self.relying(attributes.name)?;
        if relying.is_empty() {
            return Ok(());
        }
        let nodes = self.nodes.all()?;
        for (name, (demand, pods)) in relying {
            if reaches(runs_by, demand, nodes.iter().map(AsRef::as_ref)).is_ok() {
                continue;
            }
            let by = match pods {
                0 => "its policy names the class".to_owned(),
                pods => format!("{pods} pod(s)"),
            };
            let text = format!("{name:?} (at least {demand}, {by})");
            // Of a class that was not there no pod of a policy could rely on anything yet.
            if is_new && pods == 0 {
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

    /// The namespaces that demand more than every handler has and count on a class: what they demand, and how many of their
    /// pods run by it; with 0 pods only the policy of the namespace names it.
    fn relying(&self, class: &str) -> Result<BTreeMap<String, (Isolation, usize)>, ApiError> {
        let mut found: BTreeMap<String, (Isolation, usize)> = BTreeMap::new();
        let finder = memmem::Finder::new(class);
        for stored in self.storage.list(NAMESPACES, None) {
            let namespace = stored.shared::<Namespace>()?;
            let demand = match level(&namespace.metadata, MINIMUM) {
                Ok(None | Some(Isolation::Process)) => None,
                Ok(Some(demand)) => Some(demand),
                // What can't be read demands all that there is.
                Err(_) => Some(Isolation::Vm),
            };
            let policy = namespace_policy::names(namespace.metadata.annotations.as_ref(), class);
            for stored in self.storage.list("core/pods", Some(&stored.name)) {
                // Most pods don't have the name anywhere, and there may be a hundred thousand.
                if finder.find(&stored.bytes).is_none() {
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
                let entry = found.entry(name).or_insert((demand, 0));
                entry.0 = entry.0.max(demand);
                entry.1 += 1;
            }
            if let Some(demand) = demand.filter(|_| policy) {
                found.entry(stored.name.to_string()).or_insert((demand, 0));
            }
        }
        Ok(found)
    }
}
