//! Pods: the demand of their namespace is given to them, holds for them, and stays with them.

use std::collections::BTreeMap;

use berth_api::status::ApiError;
use berth_core::annotations::RUNTIME;
use berth_core::isolation::{ATTESTED, Isolation, MINIMUM, level};
use berth_rules::admission::isolation as rules;
use berth_rules::pod::EPHEMERAL_CONTAINERS;
use k8s_openapi::api::core::v1::{Binding, Pod};

use super::MinimumIsolation;
use crate::admission::{Attributes, Operation};
use crate::object::Object;

impl MinimumIsolation {
    pub(super) fn admit_pod(
        &self,
        attributes: &Attributes<'_>,
        object: &mut dyn Object,
    ) -> Result<(), ApiError> {
        if attributes.operation == Operation::Update {
            if let Some(old) = attributes.old {
                rules::restore(object.metadata_mut(), old.metadata());
            }
            return Ok(());
        }
        if attributes.subresource == "binding" {
            return Ok(());
        }
        let refuse = |rejection: rules::Rejection| attributes.forbidden(rejection.to_string());
        let floor = self.floor(attributes.namespace)?.map_err(refuse)?;
        rules::give(object.typed_mut()?, floor).map_err(refuse)
    }

    pub(super) fn validate_pod(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
    ) -> Result<(), ApiError> {
        match (attributes.operation, attributes.subresource) {
            (Operation::Create, "binding") => self.validate_binding(attributes, object.typed()?),
            (Operation::Create, _) => self.validate_new(attributes, object.typed()?),
            (_, subresource) => {
                if let Some(old) = attributes.old
                    && rules::is_another(object.metadata(), old.metadata())
                {
                    return Err(demand_changes(attributes));
                }
                match subresource {
                    EPHEMERAL_CONTAINERS => self.validate_now(attributes, object.typed()?),
                    // So is another image, and what a gate has kept away until now.
                    "" if let Some(old) = attributes.old
                        && rules::runs_anew(object.typed()?, old.typed()?) =>
                    {
                        self.validate_now(attributes, object.typed()?)
                    }
                    "status" => {
                        self.attest(attributes, object);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// A new pod, also one that names its node.
    fn validate_new(&self, attributes: &Attributes<'_>, pod: &Pod) -> Result<(), ApiError> {
        let refuse = |rejection: rules::Rejection| attributes.forbidden(rejection.to_string());
        let floor = self.floor(attributes.namespace)?.map_err(refuse)?;
        let own = level(&pod.metadata, MINIMUM)
            .map_err(|unclear| refuse(rules::Rejection::PodUnclear(unclear)))?;
        if own < floor {
            // Somebody outside has changed what was given to it.
            return Err(attributes.forbidden(format!(
                "annotation {MINIMUM} of a pod can't be less than that of its namespace"
            )));
        }
        let Some(minimum) = own else {
            return Ok(());
        };
        attributes.annotate(MINIMUM, minimum.as_str());
        self.check(pod, floor, node_of(pod))?.map_err(refuse)
    }

    /// New code in a pod that is there: by what its namespace demands now.
    fn validate_now(&self, attributes: &Attributes<'_>, pod: &Pod) -> Result<(), ApiError> {
        let refuse = |rejection: rules::Rejection| attributes.forbidden(rejection.to_string());
        let floor = self.floor(attributes.namespace)?.map_err(refuse)?;
        self.check(pod, floor, node_of(pod))?.map_err(refuse)
    }

    /// A binding's annotations become the pod's. Who may bind chooses the node, and may be no scheduler of ours.
    fn validate_binding(
        &self,
        attributes: &Attributes<'_>,
        binding: &Binding,
    ) -> Result<(), ApiError> {
        let (annotations, labels) = (&binding.metadata.annotations, &binding.metadata.labels);
        let brings = |map: &Option<BTreeMap<String, String>>| {
            map.as_ref().is_some_and(|map| map.contains_key(MINIMUM))
        };
        if brings(annotations) || brings(labels) {
            return Err(demand_changes(attributes));
        }
        let Ok(floor) = self.floor(attributes.namespace)? else {
            // Its pods were admitted before; their own demand goes on to hold at the node.
            return Ok(());
        };
        if floor.is_none_or(|floor| floor == Isolation::Process) {
            return Ok(());
        }
        let pod = self
            .storage
            .get("core/pods", attributes.namespace, attributes.name);
        let Some(pod) = pod else {
            return Ok(());
        };
        let pod: Pod = pod.decode()?;
        // It has run nowhere yet, so that what its namespace demands now holds for it.
        self.check(&pod, floor, binding.target.name.as_deref())?
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }

    /// What really runs a pod, as its node says, goes into the audit log.
    fn attest(&self, attributes: &Attributes<'_>, object: &dyn Object) {
        for key in [RUNTIME, ATTESTED] {
            let value = |object: &dyn Object| {
                let annotations = object.metadata().annotations.as_ref()?;
                annotations.get(key).cloned()
            };
            let new = value(object);
            if let Some(new) =
                new.filter(|new| attributes.old.and_then(value).as_ref() != Some(new))
            {
                attributes.annotate(key, &new);
            }
        }
    }
}

/// The node that a pod names or is bound to.
fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// The refusal of what would change the demand of a pod.
fn demand_changes(attributes: &Attributes<'_>) -> ApiError {
    attributes.forbidden(format!("annotation {MINIMUM} of a pod can't be changed"))
}
