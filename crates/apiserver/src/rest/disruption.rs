//! Evictions hold to disruption budgets.

use berth_api::status::{ApiError, Subject};
use berth_rules::disruption::{self, Verdict};
use berth_store::Expect;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::Call;
use super::delete::Deletion;
use crate::storage::Written;

const PODS: &str = "core/pods";
const BUDGETS: &str = "policy/poddisruptionbudgets";
const GROUP: &str = "policy";
/// How often a budget or pod that others keep changing is tried.
const TRIES: usize = 20;

impl Call {
    /// Takes the eviction of a pod out of the budget that is about it, if there is one and it allows that.
    ///
    /// # Errors
    /// `Disruption` when it does not, `Internal` when there are several, or one that cannot be read.
    pub(crate) async fn take_disruption(
        &self,
        pod: &Pod,
        revision: i64,
        deletion: &mut Deletion,
    ) -> Result<(), ApiError> {
        if disruption::is_free(pod) {
            return Ok(());
        }
        let name = {
            // One that cannot be read may be the one that protects the pod.
            let namespace = Some(self.namespace());
            let all: Vec<PodDisruptionBudget> = self.api.storage.read_all(BUDGETS, namespace)?;
            let mut about = all
                .into_iter()
                .filter(|budget| disruption::covers(budget, pod));
            match (about.next(), about.next()) {
                (None, _) => return Ok(()),
                (Some(budget), None) => budget.metadata.name.unwrap_or_default(),
                (Some(_), Some(_)) => {
                    return Err(ApiError::Internal(
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                            .to_owned(),
                    ));
                }
            }
        };
        self.count_disruption(&name, pod, revision, deletion).await
    }

    /// Records on the pod that it is evicted, before it is deleted. A resourceVersion that the deletion demands becomes that of
    /// this write.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn mark_disrupted(&self, deletion: &mut Deletion) -> Result<(), ApiError> {
        if deletion.dry_run {
            return Ok(());
        }
        let storage = &self.api.storage;
        let mut current = storage.get(PODS, self.namespace(), self.name());
        for _ in 0..TRIES {
            let Some(stored) = current.take() else {
                return Ok(());
            };
            let mut pod: Pod = stored.decode()?;
            let revision = stored.revision.to_string();
            let is_other = deletion.uid.is_some() && deletion.uid != pod.metadata.uid;
            let is_newer = deletion
                .resource_version
                .as_ref()
                .is_some_and(|r| *r != revision);
            if is_other || is_newer {
                // The deletion says so.
                return Ok(());
            }
            disruption::mark(&mut pod, self.time(0));
            let pod = serde_json::to_value(pod).map_err(|e| ApiError::Internal(e.to_string()))?;
            let expect = Expect::Revision(stored.revision);
            match storage
                .put(PODS, self.namespace(), self.name(), expect, pod)
                .await?
            {
                Written::Done(written) => {
                    if let Some(held) = &mut deletion.resource_version {
                        *held = written.revision.to_string();
                    }
                    return Ok(());
                }
                Written::Changed(newer) => current = newer,
            }
        }
        Err(ApiError::Conflict {
            subject: Subject::new("", "pods", self.name()),
            message: "the pod keeps changing; try again".to_owned(),
        })
    }

    async fn count_disruption(
        &self,
        name: &str,
        pod: &Pod,
        revision: i64,
        deletion: &mut Deletion,
    ) -> Result<(), ApiError> {
        let storage = &self.api.storage;
        let mut current = storage.get(BUDGETS, self.namespace(), name);
        for _ in 0..TRIES {
            let Some(stored) = current.take() else {
                return Ok(());
            };
            let mut budget: PodDisruptionBudget = stored.decode()?;
            match disruption::judge(&budget, pod, self.time(0)) {
                Verdict::Uncounted => {
                    // As it was judged, and not when it has become ready meanwhile.
                    deletion
                        .resource_version
                        .get_or_insert_with(|| revision.to_string());
                    return Ok(());
                }
                Verdict::Refused(why) => return Err(ApiError::Disruption(why)),
                Verdict::Broken(why) => {
                    return Err(ApiError::Forbidden {
                        subject: Subject::new(GROUP, "poddisruptionbudgets", name),
                        message: why,
                    });
                }
                Verdict::Allowed(_) if deletion.dry_run => return Ok(()),
                Verdict::Allowed(status) => budget.status = Some(*status),
            }
            let budget =
                serde_json::to_value(budget).map_err(|e| ApiError::Internal(e.to_string()))?;
            let expect = Expect::Revision(stored.revision);
            match storage
                .put(BUDGETS, self.namespace(), name, expect, budget)
                .await?
            {
                Written::Done(_) => return Ok(()),
                Written::Changed(newer) => current = newer,
            }
        }
        Err(ApiError::Disruption(format!(
            "The disruption budget {name} keeps changing; try again."
        )))
    }
}
