//! RuntimeClass: a pod's class exists, is allowed in its namespace, and gives it overhead, selector and tolerations.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_rules::admission::{namespace_policy, runtime_class};
use berth_rules::pod::EPHEMERAL_CONTAINERS;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::node::v1::RuntimeClass as Class;

use super::{Attributes, CLASSES, NAMESPACES, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

pub(super) struct RuntimeClass {
    storage: Arc<Storage>,
    gates: FeatureGates,
}

impl RuntimeClass {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            gates: parts.gates,
        }
    }
}

/// The annotations of a namespace, in which its policy is; none of one that is not there.
pub(super) fn policy_of(
    storage: &Storage,
    namespace: &str,
) -> Result<BTreeMap<String, String>, ApiError> {
    let namespace: Option<Arc<Namespace>> = storage.read_shared(NAMESPACES, "", namespace)?;
    Ok(namespace
        .and_then(|n| n.metadata.annotations.clone())
        .unwrap_or_default())
}

impl Plugin for RuntimeClass {
    /// The class is decided at creation; ephemeral containers are new code in it.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods", ""),
            Operation::Update => attributes.is("", "pods", EPHEMERAL_CONTAINERS),
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let pod: &mut Pod = object.typed_mut()?;
        let annotations = policy_of(&self.storage, attributes.namespace)?;
        namespace_policy::admit(pod, &annotations, &self.gates)
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))?;
        let name = pod
            .spec
            .as_ref()
            .and_then(|s| s.runtime_class_name.as_deref());
        let class: Option<Arc<Class>> = match name {
            Some(name) => self.storage.read_shared(CLASSES, "", name)?,
            None => None,
        };
        runtime_class::admit(pod, class.as_deref(), &self.gates)
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object.filter(|_| attributes.operation == Operation::Update) else {
            return Ok(());
        };
        let annotations = policy_of(&self.storage, attributes.namespace)?;
        namespace_policy::check(object.typed::<Pod>()?, &annotations, &self.gates)
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}
