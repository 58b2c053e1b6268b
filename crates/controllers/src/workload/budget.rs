//! PodDisruptionBudgets.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_core::selector::label_selector_matches;
use berth_supervise::Tasks;
use berth_workloads::Event;
use berth_workloads::budget::{needs_scale, status};
use berth_workloads::owner::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, ResourceExt as _};

use super::Key;
use super::keyed::{Keys, Looked};
use crate::Reflected;
use crate::record::Recorder;
use crate::server::write_status;

/// The kinds whose number of replicas is known.
#[derive(Clone)]
pub(super) struct Scales {
    pub(super) sets: Reflected<ReplicaSet>,
    pub(super) deployments: Reflected<Deployment>,
    pub(super) stateful: Reflected<StatefulSet>,
    pub(super) controllers: Reflected<ReplicationController>,
}

struct Controller {
    client: Client,
    budgets: Reflected<PodDisruptionBudget>,
    pods: Reflected<Pod>,
    scales: Scales,
    recorder: Arc<Recorder>,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    budgets: Reflected<PodDisruptionBudget>,
    pods: &Reflected<Pod>,
    scales: Scales,
    recorder: Arc<Recorder>,
) {
    let keys = Keys::new("disruption");
    let own = keys.clone();
    budgets.listen(move |budget| own.add(&Key::of(budget)));
    let (own, known) = (keys.clone(), budgets.clone());
    pods.listen(move |pod| {
        let all = known.all();
        let about = all.iter().filter(|budget| selects(budget, pod));
        about.for_each(|budget| own.add(&Key::of(&**budget)));
    });
    // Another number of replicas changes what is expected.
    let (own, known) = (keys.clone(), budgets.clone());
    let near = move |namespace: Option<&String>| {
        let all = known.all();
        let here = all
            .iter()
            .filter(|budget| budget.metadata.namespace.as_ref() == namespace);
        here.for_each(|budget| own.add(&Key::of(&**budget)));
    };
    let on_deployment = near.clone();
    scales
        .deployments
        .listen(move |one| on_deployment(one.metadata.namespace.as_ref()));
    scales
        .stateful
        .listen(move |one| near(one.metadata.namespace.as_ref()));
    let controller = Controller {
        client: client.clone(),
        budgets,
        pods: pods.clone(),
        scales,
        recorder,
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("disruption controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "PodDisruptionBudget", |key| controller.look(key))
            .await;
    });
}

/// One without a selector is about no pod, an empty selector about all of its namespace.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    budget.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|s| label_selector_matches(s, pod.metadata.labels.as_ref()))
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        if !self.pods.is_complete() || !self.scales.are_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Ok(None);
        };
        if budget.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let all = self.pods.all();
        let pods: Vec<&Pod> = all
            .iter()
            .map(Arc::as_ref)
            .filter(|pod| selects(&budget, pod))
            .collect();
        let scale = match needs_scale(&budget) {
            true => self.scales.of(&pods),
            false => Ok(0),
        };
        if let Err(why) = &scale {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            let event = Event::warning("CalculateExpectedPodCountFailed", message);
            self.recorder.record(&*budget, &event).await;
        }
        let (status, next) = status(&budget, &pods, scale, Timestamp::now());
        if budget.status.as_ref() != Some(&status) {
            let mut changed = PodDisruptionBudget::clone(&budget);
            changed.status = Some(status);
            write_status(&self.client, &changed).await?;
        }
        Ok(next)
    }
}

impl Scales {
    fn are_complete(&self) -> bool {
        self.sets.is_complete()
            && self.deployments.is_complete()
            && self.stateful.is_complete()
            && self.controllers.is_complete()
    }

    /// How many pods the controllers of these want together.
    ///
    /// # Errors
    /// Which pod has none, or one of a kind whose scale isn't known.
    fn of(&self, pods: &[&Pod]) -> Result<i32, String> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let name = pod.name_any();
            let owner = controller_of(&pod.metadata)
                .ok_or_else(|| format!("found no controller ref for pod \"{name}\""))?;
            if scales.contains_key(&owner.uid) {
                continue;
            }
            let namespace = pod.namespace().unwrap_or_default();
            let (uid, scale) = self.of_owner(&namespace, owner)?;
            scales.insert(uid, scale);
        }
        Ok(scales
            .values()
            .fold(0, |sum, scale| sum.saturating_add(*scale)))
    }

    /// The controller that decides, and its number: a ReplicaSet's is its Deployment's.
    fn of_owner(&self, namespace: &str, owner: &OwnerReference) -> Result<(String, i32), String> {
        let OwnerReference {
            kind, name, uid, ..
        } = owner;
        let gone = || format!("the {kind} {name} of its pods is not there");
        let replicas = match kind.as_str() {
            "ReplicaSet" => {
                let set = self.sets.get(namespace, name).ok_or_else(gone)?;
                if let Some(above) = controller_of(&set.metadata).filter(|o| o.kind == "Deployment")
                {
                    return self.of_owner(namespace, above);
                }
                set.spec.as_ref().and_then(|s| s.replicas)
            }
            "Deployment" => {
                let deployment = self.deployments.get(namespace, name).ok_or_else(gone)?;
                deployment.spec.as_ref().and_then(|s| s.replicas)
            }
            "StatefulSet" => {
                let set = self.stateful.get(namespace, name).ok_or_else(gone)?;
                set.spec.as_ref().and_then(|s| s.replicas)
            }
            "ReplicationController" => {
                let controller = self.controllers.get(namespace, name).ok_or_else(gone)?;
                controller.spec.as_ref().and_then(|s| s.replicas)
            }
            other => return Err(format!("{other} does not implement the scale subresource")),
        };
        Ok((uid.clone(), replicas.unwrap_or(1)))
    }
}
