//! ResourceQuota: what would take a namespace over its quota is refused.
//!
//! Writes in a namespace that has quotas go one after the other, so that two cannot both take what is left for one.

use std::sync::Arc;

use berth_api::quantity::{Format, Quantity};
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_core::resources::Amounts;
use berth_core::usage;
use berth_rules::admission::{Rejection, quota};
use berth_rules::pod::RESIZE;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota as Quota};

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::registry::ResourceHandler;
use crate::storage::Storage;

const QUOTAS: &str = "core/resourcequotas";
const PODS: &str = "core/pods";

pub(super) struct ResourceQuota {
    storage: Arc<Storage>,
    gates: FeatureGates,
}

impl ResourceQuota {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            gates: parts.gates,
        }
    }

    fn new_pod(&self, pods: &[Pod], pod: &Pod, quotas: &[Quota]) -> Result<(), Rejection> {
        quotas.iter().try_for_each(|one| {
            let used = usage::used(one, pods, &usage::Counts::new(), &self.gates);
            quota::check_pod(one, &used, pod, &self.gates)
        })
    }

    fn changed_pod(
        &self,
        pods: &[Pod],
        pod: &Pod,
        old: &Pod,
        quotas: &[Quota],
    ) -> Result<(), Rejection> {
        quotas.iter().try_for_each(|one| {
            let used = usage::used(one, pods, &usage::Counts::new(), &self.gates);
            quota::check_pod_update(one, &used, pod, old, &self.gates)
        })
    }

    /// Objects other than pods only count.
    fn counted(&self, attributes: &Attributes<'_>, quotas: &[Quota]) -> Result<(), Rejection> {
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
        quotas.iter().try_for_each(|limited| {
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
        let namespace = Some(attributes.namespace);
        // A quota that cannot be read may be the one that is full, a pod that cannot be read what fills it.
        let quotas: Vec<Quota> = self.storage.read_all(QUOTAS, namespace)?;
        let Some(object) = object.filter(|_| !quotas.is_empty()) else {
            return Ok(());
        };
        let fits = match attributes.old {
            _ if !attributes.is("", "pods", attributes.subresource) => {
                self.counted(attributes, &quotas)
            }
            None => {
                let pods: Vec<Pod> = self.storage.read_all(PODS, namespace)?;
                self.new_pod(&pods, object.typed()?, &quotas)
            }
            Some(old) => {
                let (pod, old): (&Pod, &Pod) = (object.typed()?, old.typed()?);
                if pod.spec == old.spec {
                    return Ok(());
                }
                let pods: Vec<Pod> = self.storage.read_all(PODS, namespace)?;
                self.changed_pod(&pods, pod, old, &quotas)
            }
        };
        fits.map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}
