//! ResourceQuota: what would take a namespace over its quota is refused.
//!
//! Writes in a namespace that has quotas go one after the other, so that two cannot both take what is left for one.

mod charges;

use std::sync::Arc;

use berth_api::quantity::{Format, Quantity};
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_core::resources::Amounts;
use berth_core::usage;
use berth_rules::admission::{Rejection, quota};
use berth_rules::pod::RESIZE;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota as Quota};

use self::charges::Charges;
use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::registry::ResourceHandler;
use crate::storage::{Storage, Stored, Unreadable};

const QUOTAS: &str = "core/resourcequotas";
const PODS: &str = "core/pods";

pub(super) struct ResourceQuota {
    storage: Arc<Storage>,
    gates: FeatureGates,
    charges: Charges,
}

impl ResourceQuota {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            gates: parts.gates,
            charges: Charges::default(),
        }
    }

    /// The quotas of a namespace. One that cannot be read may be the one that is full.
    fn quotas(&self, namespace: &str) -> Result<Vec<(Arc<Stored>, Quota)>, Unreadable> {
        let stored = self.storage.list(QUOTAS, Some(namespace)).into_iter();
        stored
            .map(|stored| {
                let quota = stored.decode()?;
                Ok((stored, quota))
            })
            .collect()
    }

    /// A new pod, or one that replaces `old`.
    fn pod(
        &self,
        attributes: &Attributes<'_>,
        pod: &Pod,
        old: Option<&Pod>,
        quotas: &[(Arc<Stored>, Quota)],
    ) -> Result<(), ApiError> {
        let (storage, gates) = (&self.storage, &self.gates);
        let used = self
            .charges
            .used(storage, attributes.namespace, quotas, gates)?;
        let fits = quotas
            .iter()
            .zip(&used)
            .try_for_each(|((_, quota), used)| match old {
                None => quota::check_pod(quota, used, pod, gates),
                Some(old) => quota::check_pod_update(quota, used, pod, old, gates),
            });
        fits.map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }

    /// Objects other than pods only count.
    fn counted(
        &self,
        attributes: &Attributes<'_>,
        quotas: &[(Arc<Stored>, Quota)],
    ) -> Result<(), Rejection> {
        let row = attributes.resource;
        let names = row.strategy.quota_names();
        let have = self
            .storage
            .list(&row.storage, Some(attributes.namespace))
            .len();
        let have = i64::try_from(have).unwrap_or(i64::MAX);
        let counts: usage::Counts = names.iter().map(|name| (name.clone(), have)).collect();
        let one = Quantity::new(1, Format::DecimalSi);
        let more: Amounts = names.iter().map(|n| (n.clone(), one.clone())).collect();
        quotas.iter().try_for_each(|(_, limited)| {
            let used = usage::used(limited, [], &counts, &self.gates);
            quota::check(limited, &used, &more)
        })
    }
}

impl Plugin for ResourceQuota {
    /// Everything new in a namespace counts; of changes, those that can make a pod use more.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => {
                attributes.resource.namespaced()
                    && attributes.resource.handler == ResourceHandler::Stored
                    && attributes.subresource.is_empty()
            }
            Operation::Update => attributes.is("", "pods", "") || attributes.is("", "pods", RESIZE),
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn is_exclusive(&self, attributes: &Attributes<'_>) -> bool {
        !self
            .storage
            .list(QUOTAS, Some(attributes.namespace))
            .is_empty()
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let quotas = self.quotas(attributes.namespace)?;
        let Some(object) = object.filter(|_| !quotas.is_empty()) else {
            return Ok(());
        };
        if !attributes.is("", "pods", attributes.subresource) {
            return self
                .counted(attributes, &quotas)
                .map_err(|rejection| attributes.forbidden(rejection.to_string()));
        }
        let pod: &Pod = object.typed()?;
        let old: Option<&Pod> = attributes.old.map(|old| old.typed()).transpose()?;
        if old.is_some_and(|old| old.spec == pod.spec) {
            return Ok(());
        }
        self.pod(attributes, pod, old, &quotas)
    }
}
