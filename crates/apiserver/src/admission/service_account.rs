//! ServiceAccount: a pod runs as an account that exists, and gets its token mounted.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::admission::node_restriction::references;
use berth_rules::admission::service_account;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount as Account};

use super::{Attributes, Operation, Parts, Plugin};
use crate::generated_name;
use crate::object::Object;
use crate::storage::Storage;

/// Pods that stand for a node's static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) struct ServiceAccount {
    storage: Arc<Storage>,
}

impl ServiceAccount {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

impl Plugin for ServiceAccount {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods", "")
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        let pod: &mut Pod = object.typed_mut()?;
        let annotations = pod.metadata.annotations.as_ref();
        if annotations.is_some_and(|a| a.contains_key(MIRROR)) {
            return Ok(());
        }
        let name = service_account::account_name(pod);
        let stored = self
            .storage
            .get("core/serviceaccounts", attributes.namespace, name);
        let found: Option<Arc<Account>> = stored.map(|stored| stored.shared()).transpose()?;
        // A namespace may be so new that nobody has made its default account yet; it will be there
        // before a node needs it.
        let found = match found {
            None if name == service_account::DEFAULT => Some(Arc::default()),
            found => found,
        };
        service_account::admit(pod, found.as_deref(), &generated_name::suffix())
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }

    /// A mirror pod stands for what its node runs anyway: it refers to nothing of its namespace, whoever makes it.
    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else {
            return Ok(());
        };
        let pod: &Pod = object.typed()?;
        let annotations = pod.metadata.annotations.as_ref();
        if !annotations.is_some_and(|a| a.contains_key(MIRROR)) {
            return Ok(());
        }
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_ref());
        let referred = references(pod);
        for (refers, to) in [
            (
                account.is_some_and(|name| !name.is_empty()),
                "service accounts",
            ),
            (!referred.secrets.is_empty(), "secrets"),
            (!referred.config_maps.is_empty(), "configmaps"),
            (!referred.claims.is_empty(), "persistentvolumeclaims"),
        ] {
            if refers {
                return Err(attributes.forbidden(format!("a mirror pod may not reference {to}")));
            }
        }
        Ok(())
    }
}
