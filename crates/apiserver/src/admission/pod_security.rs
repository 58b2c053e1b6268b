//! PodSecurity: pods meet the level that the labels of their namespace ask for, and those labels are levels.

use std::sync::Arc;
use std::time::Instant;

use berth_api::status::ApiError;
use berth_rules::admission::pod_security::namespace::{POD_LIMIT, TIME_LIMIT};
use berth_rules::admission::pod_security::{self as rules, Decision, LevelVersion, evaluates};
use k8s_openapi::api::core::v1::{Namespace, Pod};

use super::{Attributes, NAMESPACES, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

pub(super) struct PodSecurity {
    storage: Arc<Storage>,
    rules: Arc<rules::PodSecurity>,
}

impl PodSecurity {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            rules: Arc::clone(&parts.pod_security),
        }
    }

    fn pod(&self, attributes: &Attributes<'_>, object: &dyn Object) -> Result<(), ApiError> {
        let namespace = attributes.namespace;
        // Of a namespace that is not there, or that cannot be read, nobody knows what it enforces.
        let found: Option<Namespace> = self.storage.read(NAMESPACES, "", namespace)?;
        let found = found.ok_or_else(|| {
            ApiError::Internal(format!("failed to lookup namespace {namespace:?}"))
        })?;
        let at = rules::Attributes {
            user: &attributes.user.name,
            namespace,
            namespace_labels: found.metadata.labels.as_ref(),
        };
        let old: Option<&Pod> = match attributes.old {
            Some(old) if attributes.operation == Operation::Update => Some(old.typed()?),
            Some(_) | None => None,
        };
        let decision = self.rules.admit_pod(&at, object.typed()?, old);
        report(attributes, &decision);
        match decision.refused {
            Some(why) => Err(attributes.forbidden(why)),
            None => Ok(()),
        }
    }

    fn namespace(&self, attributes: &Attributes<'_>, object: &dyn Object) -> Result<(), ApiError> {
        let old: Option<&Namespace> = attributes.old.map(|old| old.typed()).transpose()?;
        let decision = self
            .rules
            .admit_namespace(object.typed()?, old)
            .map_err(|errors| ApiError::invalid("", "Namespace", attributes.name, errors))?;
        let mut warnings = decision.warnings;
        if let Some(enforce) = decision.evaluate_pods {
            warnings.extend(self.existing_pods(attributes.name, enforce));
        }
        for warning in warnings {
            attributes.warn(warning);
        }
        Ok(())
    }

    fn existing_pods(&self, namespace: &str, enforce: LevelVersion) -> Vec<String> {
        let start = Instant::now();
        let stored = self.storage.list("core/pods", Some(namespace));
        let pods = stored
            .iter()
            .map(|pod| pod.decode::<Pod>().map_err(|unreadable| unreadable.name));
        self.rules
            .existing_pods(namespace, enforce, pods, POD_LIMIT, || {
                start.elapsed() > TIME_LIMIT
            })
    }
}

/// Warnings go to the client, the rest to the audit log; without one, what is not as it should be is logged.
fn report(attributes: &Attributes<'_>, decision: &Decision) {
    for warning in &decision.warnings {
        attributes.warn(warning.clone());
    }
    for (key, what) in &decision.audit {
        attributes.annotate(&format!("pod-security.kubernetes.io/{key}"), what);
    }
    if attributes.trail.is_kept() {
        return;
    }
    for key in ["audit-violations", "error"] {
        if let Some(what) = decision.audit.get(key) {
            tracing::info!(
                namespace = attributes.namespace,
                pod = attributes.name,
                user = attributes.user.name,
                annotation = key,
                "pod security audit: {what}"
            );
        }
    }
}

impl Plugin for PodSecurity {
    /// Also every subresource of pods by which a container could come or change.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create | Operation::Update => {
                attributes.is("", "namespaces", "")
                    || (attributes.is("", "pods", attributes.subresource)
                        && evaluates(attributes.subresource))
            }
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else {
            return Ok(());
        };
        if attributes.is("", "namespaces", "") {
            self.namespace(attributes, object)
        } else {
            self.pod(attributes, object)
        }
    }
}
