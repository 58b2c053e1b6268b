//! What the API has said of pods: how each run of a container ended, and whether that was ever said differently.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use parking_lot::Mutex;

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) container: String,
    pub(crate) code: i32,
    pub(crate) reason: String,
    /// What the run wrote as its message: its number.
    pub(crate) message: String,
}

/// A pod as it was last seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSeen {
    pub(crate) pod: Pod,
    pub(crate) is_gone: bool,
    /// By the runtime's id of the container.
    pub(crate) ends: BTreeMap<String, End>,
    /// What was said of an end, and something else later.
    pub(crate) contradictions: Vec<String>,
}

impl PodSeen {
    pub(crate) fn phase(&self) -> &str {
        let status = self.pod.status.as_ref();
        status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(crate) fn is_ready(&self) -> bool {
        let status = self.pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter();
        let mut conditions = conditions.flatten();
        conditions.any(|c| c.type_ == "Ready" && c.status == "True")
    }

    fn take(&mut self, pod: Pod) {
        let status = pod.status.as_ref();
        let containers = status.and_then(|s| s.container_statuses.as_ref());
        for status in containers.into_iter().flatten() {
            let states = [&status.state, &status.last_state];
            let ended = states.into_iter().flatten();
            for ended in ended.filter_map(|state| state.terminated.as_ref()) {
                self.end(&status.name, ended);
            }
        }
        self.pod = pod;
    }

    fn end(&mut self, container: &str, ended: &ContainerStateTerminated) {
        let end = End {
            container: container.to_owned(),
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone().unwrap_or_default().trim().to_owned(),
        };
        let id = ended.container_id.clone().unwrap_or_default();
        match self.ends.get(&id) {
            Some(before) if before.code != end.code => {
                self.contradictions
                    .push(format!("{before:?}, then {end:?}"));
            }
            Some(_) | None => {}
        }
        self.ends.insert(id, end);
    }
}

#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, PodSeen>>>);

impl Seen {
    pub(crate) fn pod(&self, name: &str) -> PodSeen {
        self.0.lock().get(name).cloned().unwrap_or_default()
    }

    /// The uids of all pods that there ever were.
    pub(crate) fn uids(&self) -> Vec<String> {
        let pods = self.0.lock();
        let uids = pods
            .values()
            .filter_map(|seen| seen.pod.metadata.uid.clone());
        uids.collect()
    }

    fn take(&self, pod: Pod, is_gone: bool) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let mut pods = self.0.lock();
        let seen = pods.entry(name).or_default();
        seen.take(pod);
        seen.is_gone = is_gone;
    }

    /// Lists, then watches, again and again: a server that reboots ends both.
    pub(crate) async fn follow(self, api: Api<Pod>) {
        loop {
            // An error is a server that is away; what is missed is in the next list.
            let _ = self.watch(&api).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn watch(&self, api: &Api<Pod>) -> Result<(), kube::Error> {
        let list = api.list(&ListParams::default()).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let names: Vec<_> = list.items.iter().map(|p| p.metadata.name.clone()).collect();
        list.items.into_iter().for_each(|pod| self.take(pod, false));
        for (name, seen) in self.0.lock().iter_mut() {
            seen.is_gone |= !names.contains(&Some(name.clone()));
        }
        let stream = api.watch(&WatchParams::default(), &version).await?;
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.take(pod, false),
                WatchEvent::Deleted(pod) => self.take(pod, true),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }
}
