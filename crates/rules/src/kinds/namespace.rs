//! core/v1 Namespace.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Namespace, NamespaceSpec, NamespaceStatus};

use crate::{Rules, UnknownSubresource};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

/// Every namespace carries its own name as a label.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that keeps a namespace until it is empty.
pub const FINALIZER: &str = "kubernetes";

impl Rules for Namespace {
    fn default(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|n| !n.is_empty()) {
            let labels = self.metadata.labels.get_or_insert_default();
            labels.insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            conditions: None,
        });
        let finalizers = self
            .spec
            .get_or_insert_with(NamespaceSpec::default)
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_label);
        errors.extend(finalizers(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let phase = self
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or_default();
        let want = if self.metadata.deletion_timestamp.is_some() {
            "Terminating"
        } else {
            "Active"
        };
        if phase != want {
            errors.push(FieldError::invalid(
                &FieldPath::new("status.Phase"),
                phase,
                format!("may only be '{want}' as long as `deletionTimestamp` is as it is"),
            ));
        }
        errors
    }

    fn prepare_subresource(
        &mut self,
        subresource: &str,
        old: &Self,
    ) -> Result<(), UnknownSubresource> {
        match subresource {
            "finalize" => {
                prepare_finalize(self, old);
                Ok(())
            }
            other => Err(UnknownSubresource(other.to_owned())),
        }
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        old: &Self,
    ) -> Result<Vec<FieldError>, UnknownSubresource> {
        match subresource {
            "finalize" => Ok(validate_finalize(self, old)),
            other => Err(UnknownSubresource(other.to_owned())),
        }
    }
}

/// An update of the subresource `finalize`: only the finalizers of the spec change.
pub fn prepare_finalize(namespace: &mut Namespace, old: &Namespace) {
    namespace.status.clone_from(&old.status);
}

/// What is wrong with an update of the subresource `finalize`.
#[must_use]
pub fn validate_finalize(namespace: &Namespace, old: &Namespace) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&namespace.metadata, &old.metadata);
    errors.extend(finalizers(namespace));
    errors
}

fn finalizers(namespace: &Namespace) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("spec.finalizers");
    for finalizer in namespace
        .spec
        .iter()
        .flat_map(|s| s.finalizers.iter().flatten())
    {
        meta::extend_invalid(
            &mut errors,
            &at,
            finalizer,
            names::qualified_name(finalizer),
        );
        let standard = matches!(
            finalizer.as_str(),
            "kubernetes" | "orphan" | "foregroundDeletion"
        );
        if !finalizer.contains('/') && !standard {
            errors.push(FieldError::invalid(
                &at,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn namespace(body: Value) -> Namespace {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_new_namespace_is_active_and_labelled() {
        let mut ns = namespace(json!({"metadata": {"name": "a"}}));
        ns.default();
        ns.prepare_create(&FeatureGates::default());
        assert_eq!(
            serde_json::to_value(&ns).unwrap(),
            json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        assert_eq!(ns.validate(), []);
    }

    #[test]
    fn what_is_wrong() {
        let causes = |errors: Vec<FieldError>| -> Vec<_> {
            errors
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect()
        };
        assert_eq!(
            causes(namespace(json!({"metadata": {"name": "a.b"}})).validate()),
            ["FieldValueInvalid metadata.name"]
        );
        assert_eq!(
            causes(
                namespace(json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}}))
                    .validate()
            ),
            ["FieldValueInvalid spec.finalizers"]
        );
        let old = namespace(json!({"metadata": {"name": "a", "resourceVersion": "1"}}));
        let mut new = old.clone();
        new.status = Some(NamespaceStatus {
            phase: Some("Terminating".into()),
            conditions: None,
        });
        assert_eq!(
            causes(new.validate_status(&old)),
            ["FieldValueInvalid status.Phase"]
        );
    }
}
