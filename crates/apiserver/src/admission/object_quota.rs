//! ResourceQuota, of claims and services: storage, ports of nodes and load balancers, beside the numbers of objects.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::object_usage;
use berth_core::resources::Amounts;
use berth_rules::admission::quota;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota as Quota, Service};

use super::resource_quota::ResourceQuota;
use super::{Attributes, Operation, Parts, Plugin};
use crate::object::{Object, Typed};
use crate::storage::Storage;

const QUOTAS: &str = "core/resourcequotas";

/// The whole plugin: what counts pods and objects, and what measures claims and services.
pub(super) struct WholeQuota {
    counts: ResourceQuota,
    storage: Arc<Storage>,
}

impl WholeQuota {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            counts: ResourceQuota::new(parts),
            storage: Arc::clone(&parts.storage),
        }
    }

    fn measured<T: Typed>(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
        usage: fn(&T) -> Amounts,
        is_limited: fn(&str) -> bool,
    ) -> Result<(), ApiError> {
        let namespace = Some(attributes.namespace);
        let mut more = usage(object.typed()?);
        if let Some(old) = attributes.old {
            more = object_usage::more(more, &usage(old.typed()?));
        }
        // One that cannot be read may be the one that is full.
        let quotas: Vec<Quota> = self.storage.read_all(QUOTAS, namespace)?;
        let hard = |quota: &Quota| {
            let hard = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
            hard.is_some_and(|hard| hard.keys().any(|name| is_limited(name)))
        };
        if more.is_empty() || !quotas.iter().any(hard) {
            return Ok(());
        }
        let mut used = Amounts::new();
        for other in self
            .storage
            .read_all::<T>(&attributes.resource.storage, namespace)?
        {
            object_usage::add(&mut used, &usage(&other));
        }
        let fits = quotas
            .iter()
            .try_for_each(|quota| quota::check(quota, &used, &more));
        fits.map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}

/// Whether it is a write of something that is measured.
fn measures(attributes: &Attributes<'_>) -> bool {
    matches!(attributes.operation, Operation::Create | Operation::Update)
        && (attributes.is("", "persistentvolumeclaims", "") || attributes.is("", "services", ""))
}

impl Plugin for WholeQuota {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        self.counts.handles(attributes) || measures(attributes)
    }

    fn is_exclusive(&self, attributes: &Attributes<'_>) -> bool {
        self.counts.is_exclusive(attributes)
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        if self.counts.handles(attributes) {
            self.counts.validate(attributes, object)?;
        }
        let Some(object) = object.filter(|_| measures(attributes)) else {
            return Ok(());
        };
        if attributes.resource.plural == "services" {
            let (usage, limited) = (object_usage::of_service, object_usage::is_of_services);
            self.measured::<Service>(attributes, object, usage, limited)
        } else {
            let (usage, limited) = (object_usage::of_claim, object_usage::is_of_claims);
            self.measured::<PersistentVolumeClaim>(attributes, object, usage, limited)
        }
    }
}
