//! Creating and deleting pods on behalf of a controller.

use std::sync::Arc;

use berth_supervise::Brief;
use berth_workloads::Event;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt as _};

use super::Key;
use super::keyed::first_error;
use super::seen::Written;
use crate::record::Recorder;
use crate::reflect::revision_of;
use crate::server::{is_code, only};

/// What the pods of one kind of controller are written with.
pub(super) struct Pods {
    pub(super) client: Client,
    pub(super) recorder: Arc<Recorder>,
    /// What was written, by the object on whose behalf.
    pub(super) written: Written,
}

impl Pods {
    /// Creates pods: one, then twice as many each time, so that what is refused is refused once and not five hundred times.
    ///
    /// # Errors
    /// The first refusal, with how many were not created after it.
    pub(super) async fn create<O>(&self, owner: &O, mut pods: Vec<Pod>) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let mut batch = 1;
        while !pods.is_empty() {
            let rest = pods.split_off(batch.min(pods.len()));
            let creating = pods.into_iter().map(|pod| self.create_one(owner, pod));
            if let Some(error) = first_error(join_all(creating).await) {
                return Err(error);
            }
            (pods, batch) = (rest, batch * 2);
        }
        Ok(())
    }

    async fn create_one<O>(&self, owner: &O, pod: Pod) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let namespace = owner.meta().namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                self.written
                    .note(&Key::of(owner), revision_of(&pod.metadata));
                let message = words::<O>("create", &pod.name_any(), owner, Ok(()));
                let event = Event::normal("SuccessfulCreate", message);
                self.recorder.record(owner, &event).await;
                Ok(())
            }
            Err(error) => {
                // A namespace that is being emptied refuses everything, which is no news.
                if !is_ending(&error) {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    let message = words::<O>("create", name, owner, Err(&error));
                    let event = Event::warning("FailedCreate", message);
                    self.recorder.record(owner, &event).await;
                }
                Err(error)
            }
        }
    }

    /// Deletes pods, all at once.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn delete<O>(&self, owner: &O, pods: &[Arc<Pod>]) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let deleting = pods.iter().map(|pod| self.delete_one(owner, pod));
        match first_error(join_all(deleting).await) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn delete_one<O>(&self, owner: &O, pod: &Pod) -> Result<(), kube::Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let name = pod.name_any();
        match api.delete(&name, &only(&pod.metadata)).await {
            Ok(answer) => {
                let revision = answer.left().and_then(|pod| revision_of(&pod.metadata));
                self.written.note(&Key::of(owner), revision);
                let message = words::<O>("delete", &name, owner, Ok(()));
                let event = Event::normal("SuccessfulDelete", message);
                self.recorder.record(owner, &event).await;
                Ok(())
            }
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => {
                let message = words::<O>("delete", &name, owner, Err(&error));
                let event = Event::warning("FailedDelete", message);
                self.recorder.record(owner, &event).await;
                Err(error)
            }
        }
    }
}

/// What is said of a pod, as the stock controller of the kind does; that of StatefulSets has its own words.
fn words<O>(verb: &str, pod: &str, owner: &O, result: Result<(), &kube::Error>) -> String
where
    O: Resource<DynamicType = ()>,
{
    let set = owner.meta().name.as_deref().unwrap_or_default();
    match (O::kind(&()).as_ref(), result) {
        ("StatefulSet", Ok(())) => format!("{verb} Pod {pod} in StatefulSet {set} successful"),
        ("StatefulSet", Err(error)) => format!(
            "{verb} Pod {pod} in StatefulSet {set} failed error: {}",
            Brief(error)
        ),
        (_, Ok(())) if verb == "create" => format!("Created pod: {pod}"),
        (_, Ok(())) => format!("Deleted pod: {pod}"),
        (_, Err(error)) if verb == "create" => format!("Error creating: {}", Brief(error)),
        (_, Err(error)) => format!("Error deleting: {}", Brief(error)),
    }
}

/// The namespace is being deleted.
pub(super) fn is_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}
