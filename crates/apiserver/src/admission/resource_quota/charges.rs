//! What each pod takes of each quota, counted once for each of their changes: pods of megabytes must not be decoded anew
//! for every small one that comes.

use std::collections::HashMap;
use std::sync::Arc;

use berth_core::gates::FeatureGates;
use berth_core::resources::{self, Amounts};
use berth_core::usage::{self, Counts};
use berth_store::Revision;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use parking_lot::Mutex;

use super::{PODS, QUOTAS};
use crate::storage::{Storage, Stored, Unreadable};

/// Names of pods with the revision that was counted, and what it takes.
type OfPods = HashMap<Arc<str>, (Revision, Amounts)>;
/// Quotas of a namespace at a revision.
type OfQuotas = HashMap<(Arc<str>, Revision), OfPods>;

/// Of all namespaces with quotas in which a pod was written.
#[derive(Default)]
pub(super) struct Charges(Mutex<HashMap<String, OfQuotas>>);

impl Charges {
    /// What of each quota the pods of its namespace use, in the order of the quotas.
    ///
    /// # Errors
    /// [`Unreadable`] for a pod that cannot be decoded: it may be what fills the quota.
    pub(super) fn used(
        &self,
        storage: &Storage,
        namespace: &str,
        quotas: &[(Arc<Stored>, ResourceQuota)],
        gates: &FeatureGates,
    ) -> Result<Vec<Amounts>, Unreadable> {
        // Taken out while it is worked on: other namespaces don't wait.
        let mut before = self.0.lock().remove(namespace).unwrap_or_default();
        let pods = storage.list(PODS, Some(namespace));
        let mut now = OfQuotas::new();
        let mut sums = Vec::with_capacity(quotas.len());
        for (stored, quota) in quotas {
            let key = (Arc::clone(&stored.name), stored.revision);
            let mut known = before.remove(&key).unwrap_or_default();
            let mut sum = usage::used(quota, [], &Counts::new(), gates);
            let mut counted = OfPods::with_capacity(pods.len());
            for pod in &pods {
                let known = known.remove(&pod.name);
                let amounts = match known.filter(|(revision, _)| *revision == pod.revision) {
                    Some((_, amounts)) => amounts,
                    None => {
                        let decoded: Pod = pod.decode()?;
                        usage::used(quota, [&decoded], &Counts::new(), gates)
                    }
                };
                // A pod whose requests cannot be read takes all there is, and more of it is no less.
                resources::add(&mut sum, &amounts);
                counted.insert(Arc::clone(&pod.name), (pod.revision, amounts));
            }
            now.insert(key, counted);
            sums.push(sum);
        }
        let mut all = self.0.lock();
        if !all.contains_key(namespace) {
            all.retain(|other, _| !storage.list(QUOTAS, Some(other.as_str())).is_empty());
        }
        all.insert(namespace.to_owned(), now);
        Ok(sums)
    }
}
