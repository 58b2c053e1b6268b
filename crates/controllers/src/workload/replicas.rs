//! ReplicaSets and ReplicationControllers.

mod kinds;

use std::sync::Arc;
use std::time::Duration;

use berth_core::selector::is_empty;
use berth_supervise::{Brief, Tasks};
use berth_workloads::owner::{controller_of, controller_reference};
use berth_workloads::pod::sooner;
use berth_workloads::replicas::{Change, Failure, Replicas, change, status};
use berth_workloads::template::pod_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Key;
use super::claim::claim_all;
use super::keyed::{Keys, Looked};
use super::pods::{Pods, is_ending};
use crate::Reflected;
use crate::server::write_status;
use kinds::Replicated;

struct Controller<K: Replicated> {
    objects: Reflected<K>,
    pods: Reflected<Pod>,
    control: Pods,
    keys: Keys,
}

/// Spawns the controller of one of the two kinds.
pub(super) fn spawn<K: Replicated>(
    tasks: &Tasks,
    objects: Reflected<K>,
    pods: &Reflected<Pod>,
    control: Pods,
) {
    let keys = Keys::new(K::QUEUE);
    let own = keys.clone();
    objects.listen(move |object| own.add(&Key::of(object)));
    let (own, known) = (keys.clone(), objects.clone());
    pods.listen(move |pod| match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == K::KIND && owner.api_version == K::API_VERSION => {
            own.add(&Key::new(
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                &owner.name,
            ));
        }
        Some(_) => {}
        None => known
            .all()
            .iter()
            .filter(|object| {
                object.meta().namespace == pod.metadata.namespace && object.selects(pod)
            })
            .for_each(|object| own.add(&Key::of(&**object))),
    });
    let controller = Controller {
        objects,
        pods: pods.clone(),
        control,
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential(K::TASK, async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, K::KIND, |key| controller.look(key))
            .await;
    });
}

impl<K: Replicated> Controller<K> {
    async fn look(&self, key: Key) -> Looked {
        let Some(object) = self.objects.get(&key.namespace, &key.name) else {
            self.control.written.forget(&key);
            return Ok(None);
        };
        if !self.pods.is_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        if let Some(wait) = self.control.written.is_awaited(&key, self.pods.revision()) {
            return Ok(Some(wait));
        }
        let Some(selector) = object.selector().filter(|selector| !is_empty(selector)) else {
            return Ok(None);
        };
        let here = self.pods.in_namespace(&key.namespace);
        let owned = claim_all(&self.control.client, &*object, &selector, here).await?;
        let outcome = if object.meta().deletion_timestamp.is_none() {
            self.change(&object, &owned).await
        } else {
            Outcome::Done
        };
        let next = self
            .write_status(&object, &owned, outcome.failure())
            .await?;
        match outcome {
            Outcome::Refused(_, error) if !is_ending(&error) => Err(error),
            Outcome::Waits(left, _) => Ok(sooner(next, Some(left))),
            Outcome::Done | Outcome::Refused(..) => Ok(next),
        }
    }

    async fn change(&self, object: &K, owned: &[Arc<Pod>]) -> Outcome {
        let family = object.family(&self.objects.all());
        let all = self
            .pods
            .in_namespace(object.meta().namespace.as_deref().unwrap_or_default());
        let related = all.iter().map(Arc::as_ref).filter(|pod| {
            let owner = controller_of(&pod.metadata);
            owner.is_some_and(|owner| family.contains(&owner.uid))
        });
        match change(object.replicas().wanted, owned, related, Timestamp::now()) {
            Change::None => Outcome::Done,
            Change::Wait(left, failure) => Outcome::Waits(left, failure),
            Change::Create(number) => {
                let owner = controller_reference::<K>(object.meta());
                let Some(template) = object.template() else {
                    return Outcome::Done;
                };
                let pods = vec![pod_of(&template, owner); number];
                match self.control.create(object, pods).await {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Refused("FailedCreate", error),
                }
            }
            Change::Delete(pods) => match self.control.delete(object, &pods).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Refused("FailedDelete", error),
            },
        }
    }

    async fn write_status(
        &self,
        object: &K,
        owned: &[Arc<Pod>],
        failure: Option<Failure>,
    ) -> Looked {
        let replicas: Replicas<'_> = object.replicas();
        let old = object.status();
        let (new, next) = status(&replicas, owned, failure, &old, Timestamp::now());
        if new == old {
            return Ok(next);
        }
        write_status(&self.control.client, &object.with_status(new)).await?;
        Ok(next)
    }
}

/// What came of a look at the number of pods.
enum Outcome {
    Done,
    /// The server refused to create or delete.
    Refused(&'static str, kube::Error),
    /// The pods fail, so that no more are made for a while.
    Waits(Duration, Failure),
}

impl Outcome {
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Done => None,
            Self::Refused(reason, error) => Some(Failure {
                reason,
                message: Brief(error).to_string(),
            }),
            Self::Waits(_, failure) => Some(failure.clone()),
        }
    }
}
