//! HorizontalPodAutoscalers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use berth_api::quantity::Quantity;
use berth_supervise::{Brief, Tasks};
use berth_workloads::autoscaler::{
    History, Measured, Plan, PodUse, Resize, Scale, needs_metrics, plan, resized, without_scale,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersion, GroupVersionKind};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::Key;
use super::keyed::{Keys, Looked};
use crate::Reflected;
use crate::record::Recorder;
use crate::server::{is_code, path_segment, write_status};

/// The time between two looks (stock: `--horizontal-pod-autoscaler-sync-period`).
const PERIOD: Duration = Duration::from_secs(15);
/// One that was changed is looked at before that, and not more often than this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How often a target's scale is written when others write to the target.
const TRIES: usize = 4;

struct Controller {
    client: Client,
    scalers: Reflected<HorizontalPodAutoscaler>,
    recorder: Arc<Recorder>,
    known: Mutex<HashMap<Key, Known>>,
    keys: Keys,
}

/// What is kept of an autoscaler.
#[derive(Default)]
struct Known {
    uid: String,
    history: History,
    /// The UIDs of the pods that its target's selector selects.
    pods: BTreeSet<String>,
    /// When it was last looked at, and its generation then.
    looked: Option<(Instant, Option<i64>)>,
}

impl Known {
    /// How long to wait until it may be looked at.
    fn wait(&self, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let (at, seen) = self.looked?;
        let pause = if seen == generation { PERIOD } else { AT_ONCE };
        let left = pause.saturating_sub(now.saturating_duration_since(at));
        (!left.is_zero()).then_some(left)
    }
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    scalers: Reflected<HorizontalPodAutoscaler>,
    recorder: Arc<Recorder>,
) {
    let keys = Keys::new("horizontalpodautoscaler");
    let own = keys.clone();
    scalers.listen(move |scaler| own.add(&Key::of(scaler)));
    let controller = Controller {
        client: client.clone(),
        scalers,
        recorder,
        known: Mutex::default(),
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("horizontal pod autoscaler", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "HorizontalPodAutoscaler", |key| controller.look(key))
            .await;
    });
}

/// The scale of a target, as it was read, and where it is written.
struct Target {
    api: Api<DynamicObject>,
    name: String,
    scale: v1::Scale,
}

impl Target {
    fn scale(&self) -> Scale {
        let spec = self.scale.spec.as_ref();
        let status = self.scale.status.as_ref();
        Scale {
            wanted: spec.and_then(|spec| spec.replicas).unwrap_or_default(),
            selector: status
                .and_then(|status| status.selector.clone())
                .unwrap_or_default(),
        }
    }

    /// Writes another number, again where somebody else has written to the target meanwhile.
    async fn resize(mut self, to: i32) -> kube::Result<()> {
        let params = PostParams::default();
        let mut tries = 1..TRIES;
        loop {
            self.scale.spec.get_or_insert_default().replicas = Some(to);
            let written = self.api.replace_scale(&self.name, &params, &self.scale);
            match written.await {
                Ok(_) => return Ok(()),
                Err(error) if is_code(&error, &[409]) && tries.next().is_some() => {
                    self.scale = self.api.get_scale(&self.name).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        let Some(scaler) = self.scalers.get(&key.namespace, &key.name) else {
            self.known.lock().remove(&key);
            return Ok(None);
        };
        if scaler.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let generation = scaler.metadata.generation;
        let now = Instant::now();
        let mut history = {
            let mut known = self.known.lock();
            let known = known.entry(key.clone()).or_default();
            let uid = scaler.uid().unwrap_or_default();
            if known.uid != uid {
                *known = Known {
                    uid,
                    ..Known::default()
                };
            }
            if let Some(wait) = known.wait(generation, now) {
                return Ok(Some(wait));
            }
            known.looked = Some((now, generation));
            std::mem::take(&mut known.history)
        };
        let done = self.bring(&key, &scaler, &mut history).await;
        if let Some(known) = self.known.lock().get_mut(&key) {
            known.history = history;
        }
        done?;
        Ok(Some(PERIOD))
    }

    async fn bring(
        &self,
        key: &Key,
        scaler: &HorizontalPodAutoscaler,
        history: &mut History,
    ) -> kube::Result<()> {
        let target = match self.target(key, scaler).await {
            Ok(target) => target,
            Err(why) => {
                let plan = without_scale(scaler, &why, Timestamp::now());
                return self.finish(scaler, plan).await;
            }
        };
        let scale = target.scale();
        let (pods, uses) = if needs_metrics(scaler, &scale) {
            self.measure(key, &scale.selector).await?
        } else {
            (Vec::new(), Ok(BTreeMap::new()))
        };
        let rivals = self.rivals(key, &pods);
        let measured = Measured {
            pods: &pods,
            uses,
            rivals: &rivals,
        };
        let mut plan = plan(scaler, &scale, &measured, history, Timestamp::now());
        if let Some(resize) = plan.resize.take() {
            self.resize(scaler, target, &mut plan, &resize, history)
                .await;
        }
        self.finish(scaler, plan).await
    }

    async fn resize(
        &self,
        scaler: &HorizontalPodAutoscaler,
        target: Target,
        plan: &mut Plan,
        resize: &Resize,
        history: &mut History,
    ) {
        let done = target.resize(resize.to).await;
        let error = done.as_ref().err().map(|error| Brief(error).to_string());
        let done = error.as_deref().map_or(Ok(()), Err);
        let (status, event) = resized(scaler, plan, resize, done, history, Timestamp::now());
        if done.is_ok() {
            let (namespace, name) = (scaler.namespace(), scaler.name_any());
            let (from, to) = (resize.from, resize.to);
            tracing::info!(
                namespace,
                name,
                from,
                to,
                "an autoscaler resized its target"
            );
        }
        plan.status = status;
        plan.events.push(event);
    }

    async fn finish(&self, scaler: &HorizontalPodAutoscaler, plan: Plan) -> kube::Result<()> {
        for event in &plan.events {
            self.recorder.record(scaler, event).await;
        }
        if scaler.status.as_ref() == Some(&plan.status) {
            return Ok(());
        }
        let mut changed = scaler.clone();
        changed.status = Some(plan.status);
        write_status(&self.client, &changed).await.map(drop)
    }

    /// The target and its scale.
    ///
    /// # Errors
    /// Why there is none, for people.
    async fn target(&self, key: &Key, scaler: &HorizontalPodAutoscaler) -> Result<Target, String> {
        let reference = &scaler.spec.scale_target_ref;
        let version = reference.api_version.as_deref().unwrap_or("v1");
        let version = group_version(version)?;
        let name = path_segment(&reference.name)
            .ok_or_else(|| format!("\"{}\" is no name of an object", reference.name))?;
        let kind = GroupVersionKind::gvk(&version.group, &version.version, &reference.kind);
        let found = kube::discovery::oneshot::pinned_kind(&self.client, &kind).await;
        let unknown = |error: kube::Error| {
            let (kind, version) = (&reference.kind, version.api_version());
            format!(
                "no matches for kind \"{kind}\" in \"{version}\": {}",
                Brief(&error)
            )
        };
        let (resource, _) = found.map_err(unknown)?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let scale = api.get_scale(&name).await;
        let scale = scale.map_err(|error| Brief(&error).to_string())?;
        Ok(Target { api, name, scale })
    }

    /// The pods of a selector, and what they use; or why that is not known.
    async fn measure(
        &self,
        key: &Key,
        selector: &str,
    ) -> kube::Result<(Vec<Pod>, Result<BTreeMap<String, PodUse>, String>)> {
        let params = ListParams::default().labels(selector);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let uses = Api::namespaced_with(self.client.clone(), &key.namespace, &pod_metrics());
        let (pods, uses) = tokio::join!(pods.list(&params), uses.list(&params));
        let uses = uses
            .map_err(|error| {
                let error = Brief(&error);
                format!("unable to fetch metrics from resource metrics API: {error}")
            })
            .and_then(|list| read_uses(list.items));
        Ok((pods?.items, uses))
    }

    /// All autoscalers that select one of these pods, where there are several.
    fn rivals(&self, key: &Key, pods: &[Pod]) -> Vec<String> {
        let uids: BTreeSet<String> = pods.iter().filter_map(ResourceExt::uid).collect();
        let mut known = self.known.lock();
        if let Some(known) = known.get_mut(key) {
            known.pods.clone_from(&uids);
        }
        let mut rivals: Vec<String> = known
            .iter()
            .filter(|(other, known)| {
                other.namespace == key.namespace && !known.pods.is_disjoint(&uids)
            })
            .map(|(other, _)| other.text())
            .collect();
        rivals.sort_unstable();
        if rivals.len() > 1 { rivals } else { Vec::new() }
    }
}

/// An `apiVersion`, which becomes a part of the path of a request with our rights, and not with its author's.
fn group_version(text: &str) -> Result<GroupVersion, String> {
    let is_name = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        part.chars().all(fits) && !part.split('.').any(str::is_empty)
    };
    let parsed = text.parse::<GroupVersion>().ok();
    parsed
        .filter(|of| is_name(&of.version) && (of.group.is_empty() || is_name(&of.group)))
        .ok_or_else(|| format!("unexpected GroupVersion string: {text}"))
}

fn pod_metrics() -> ApiResource {
    let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
    ApiResource::from_gvk_with_plural(&kind, "pods")
}

/// What metrics.k8s.io says of a pod.
#[derive(Deserialize)]
struct PodMetrics {
    timestamp: Timestamp,
    /// A Go duration.
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

fn read_uses(items: Vec<DynamicObject>) -> Result<BTreeMap<String, PodUse>, String> {
    if items.is_empty() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    let read = |item: DynamicObject| {
        let name = item.name_any();
        let unreadable =
            |why: &dyn std::fmt::Display| format!("the metrics of pod {name} can't be read: {why}");
        let metrics: PodMetrics =
            serde_json::from_value(item.data).map_err(|error| unreadable(&error))?;
        let window: SignedDuration = metrics.window.parse().map_err(|error| unreadable(&error))?;
        let containers = metrics.containers.into_iter().map(|container| {
            let usage = container.usage.into_iter();
            let usage = usage.map(|(name, amount)| (name, amount.milli_value()));
            (container.name, usage.collect())
        });
        let found = PodUse {
            at: metrics.timestamp,
            window,
            containers: containers.collect(),
        };
        Ok((name.clone(), found))
    };
    items.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn metrics_are_read_in_thousandths() {
        let items = json!([{"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": "p", "namespace": "n"},
            "timestamp": "2026-11-30T08:00:00Z", "window": "1m0.5s",
            "containers": [{"name": "c", "usage": {"cpu": "12500001n", "memory": "4Ki"}}]}]);
        let uses = read_uses(from_value(items).unwrap()).unwrap();
        let found = &uses["p"];
        assert_eq!(found.window, SignedDuration::from_millis(60_500));
        let wanted = [("cpu".to_owned(), 13), ("memory".to_owned(), 4_096_000)];
        assert_eq!(found.containers["c"], wanted.into());
    }

    #[test]
    fn metrics_that_cannot_be_read_are_refused() {
        assert!(read_uses(Vec::new()).is_err());
        let item = json!([{"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": "p"}, "timestamp": "now", "window": "1s"}]);
        let error = read_uses(from_value(item).unwrap()).unwrap_err();
        assert!(
            error.starts_with("the metrics of pod p can't be read"),
            "{error}"
        );
    }

    #[test]
    fn an_api_version_is_nothing_else_in_a_path() {
        for text in ["v1", "apps/v1", "lamps.example.com/v1beta1"] {
            assert_eq!(group_version(text).unwrap().api_version(), text);
        }
        for text in [
            "", "/", "..", "../v1", "a/..", "a?b/v1", "a%2fb/v1", "a/v1?x", "a/b/c", "a b/v1",
        ] {
            assert!(group_version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_is_looked_at_sooner_and_never_all_the_time() {
        let now = Instant::now();
        let known = Known {
            looked: Some((now, Some(1))),
            ..Known::default()
        };
        assert_eq!(known.wait(Some(1), now), Some(PERIOD));
        assert_eq!(known.wait(Some(2), now), Some(AT_ONCE));
        assert_eq!(known.wait(Some(2), now + AT_ONCE), None);
        assert_eq!(Known::default().wait(Some(1), now), None);
    }
}
