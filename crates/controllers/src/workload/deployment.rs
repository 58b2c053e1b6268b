//! Deployments.

use std::sync::Arc;

use berth_core::selector::is_empty;
use berth_supervise::Brief;
use berth_supervise::Tasks;
use berth_workloads::Event;
use berth_workloads::deployment::{Plan, Step, Taken, create_failed, plan};
use berth_workloads::owner::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::Key;
use super::claim::claim_all;
use super::keyed::{Keys, Looked};
use super::pods::is_ending;
use crate::Reflected;
use crate::record::Recorder;
use crate::server::{is_code, only_unchanged, write_status};

struct Controller {
    client: Client,
    deployments: Reflected<Deployment>,
    sets: Reflected<ReplicaSet>,
    pods: Reflected<Pod>,
    recorder: Arc<Recorder>,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    deployments: Reflected<Deployment>,
    sets: &Reflected<ReplicaSet>,
    pods: &Reflected<Pod>,
    recorder: Arc<Recorder>,
) {
    let keys = Keys::new("deployment");
    let own = keys.clone();
    deployments.listen(move |object| own.add(&Key::of(object)));
    let (own, known) = (keys.clone(), deployments.clone());
    sets.listen(move |set| match owner_of(set) {
        Some(key) => own.add(&key),
        None if controller_of(&set.metadata).is_some() => {}
        None => {
            let all = known.all();
            let near = all
                .iter()
                .filter(|d| d.metadata.namespace == set.metadata.namespace);
            near.for_each(|deployment| own.add(&Key::of(&**deployment)));
        }
    });
    // The last old pod of a Deployment that is recreated has no other sign than its end.
    let (own, known) = (keys.clone(), sets.clone());
    pods.listen(move |pod| {
        let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")
        else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let set = known.get(namespace, &owner.name);
        if let Some(key) = set.and_then(|set| owner_of(&set))
            && berth_workloads::pod::is_finished(pod) | pod.metadata.deletion_timestamp.is_some()
        {
            own.add(&key);
        }
    });
    let controller = Controller {
        client: client.clone(),
        deployments,
        sets: sets.clone(),
        pods: pods.clone(),
        recorder,
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("deployment controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "Deployment", |key| controller.look(key))
            .await;
    });
}

fn owner_of(set: &ReplicaSet) -> Option<Key> {
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, &owner.name))
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else {
            return Ok(None);
        };
        if !self.sets.is_complete() || !self.pods.is_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(spec) = &deployment.spec else {
            return Ok(None);
        };
        let sets = if is_empty(&spec.selector) {
            Vec::new()
        } else {
            let here = self.sets.in_namespace(&key.namespace);
            claim_all(&self.client, &*deployment, &spec.selector, here).await?
        };
        let pods = self.pods_of(&sets);
        let plan = plan(&deployment, &sets, &pods, Timestamp::now());
        self.carry_out(&deployment, plan).await
    }

    fn pods_of(&self, sets: &[Arc<ReplicaSet>]) -> Vec<Arc<Pod>> {
        let is_one_of = |pod: &Arc<Pod>| {
            let owner = controller_of(&pod.metadata);
            owner.is_some_and(|owner| {
                sets.iter()
                    .any(|s| s.metadata.uid.as_ref() == Some(&owner.uid))
            })
        };
        self.pods.all().into_iter().filter(is_one_of).collect()
    }

    async fn carry_out(&self, deployment: &Deployment, plan: Plan) -> Looked {
        let mut status = plan.status;
        let mut current = deployment.clone();
        for step in plan.steps {
            match step {
                Step::Create(set) => match self.create(deployment, &set).await {
                    Ok(Taken::Same) => {}
                    Err(error) => {
                        let reason = Brief(&error).to_string();
                        let status = create_failed(deployment, &set, &reason, Timestamp::now());
                        if !is_ending(&error) && deployment.status.as_ref() != Some(&status) {
                            self.write_status(current, status).await?;
                        }
                        return Err(error);
                    }
                    Ok(Taken::Other) => {
                        let collisions = status.collision_count.unwrap_or(0);
                        status.collision_count = Some(collisions.saturating_add(1));
                        // What the plan says after this did not come about.
                        return self.write_status(current, status).await.map(|()| None);
                    }
                },
                Step::Update {
                    old,
                    replicas,
                    min_ready_seconds,
                    annotations,
                } => {
                    let mut set = ReplicaSet::clone(&old);
                    set.metadata.annotations = Some(annotations);
                    if let Some(spec) = &mut set.spec {
                        spec.replicas = Some(replicas);
                        spec.min_ready_seconds = min_ready_seconds;
                    }
                    let api = self.sets_in(deployment);
                    api.replace(&old.name_any(), &PostParams::default(), &set)
                        .await?;
                }
                Step::Delete(set) => self.delete(deployment, &set).await?,
                Step::Annotate(annotations) => {
                    current = self.annotate(deployment, &annotations).await?;
                }
            }
        }
        for event in &plan.events {
            self.recorder.record(deployment, event).await;
        }
        if deployment.status.as_ref() != Some(&status) {
            self.write_status(current, status).await?;
        }
        Ok(plan.next)
    }

    fn sets_in(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        let namespace = deployment.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> kube::Result<Taken> {
        let api = self.sets_in(deployment);
        match api.create(&PostParams::default(), set).await {
            Ok(_) => Ok(Taken::Same),
            Err(error) if is_code(&error, &[409]) => {
                let there = api.get_opt(&set.name_any()).await?;
                Ok(there.map_or(Taken::Other, |there| Taken::of(deployment, &there)))
            }
            Err(error) => {
                if !is_ending(&error) {
                    let message = format!(
                        "Failed to create new replica set \"{}\": {}",
                        set.name_any(),
                        Brief(&error)
                    );
                    let event = Event::warning("ReplicaSetCreateError", message);
                    self.recorder.record(deployment, &event).await;
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, deployment: &Deployment, set: &ReplicaSet) -> kube::Result<()> {
        let params = only_unchanged(&set.metadata);
        let api = self.sets_in(deployment);
        match api.delete(&set.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_code(&error, &[404]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn annotate(
        &self,
        deployment: &Deployment,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> kube::Result<Deployment> {
        let patch = json!({"metadata": {"uid": deployment.uid(), "annotations": annotations}});
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        api.patch(
            &deployment.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    }

    /// Writes the status into the Deployment as it is after the plan's other steps.
    async fn write_status(
        &self,
        mut deployment: Deployment,
        status: DeploymentStatus,
    ) -> kube::Result<()> {
        deployment.status = Some(status);
        write_status(&self.client, &deployment).await.map(drop)
    }
}
