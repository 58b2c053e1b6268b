//! A Deployment in a cluster that does what it is told: invariants of rollouts, at every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::{at, object};

struct Cluster {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    events: Vec<String>,
    now: i64,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        spec["template"] = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
        let deployment = object(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1,
                "annotations": {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": spec,
        }));
        Self {
            deployment,
            sets: BTreeMap::new(),
            events: Vec::new(),
            now: 0,
        }
    }

    fn plan(&self) -> Plan {
        let sets: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        plan(&self.deployment, &sets, &[], at(self.now))
    }

    /// Carries a plan out. Whether anything changed.
    fn step(&mut self) -> bool {
        self.now += 1;
        let plan = self.plan();
        let before = self.deployment.status.clone().unwrap_or_default();
        let mut changed = before != plan.status || !plan.steps.is_empty();
        self.events
            .extend(plan.events.into_iter().map(|e| e.message));
        self.deployment.status = Some(plan.status);
        for step in plan.steps {
            match step {
                Step::Create(mut set) => {
                    set.metadata.uid = set.metadata.name.clone();
                    set.metadata.creation_timestamp = Some(
                        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(self.now)),
                    );
                    self.sets
                        .insert(set.metadata.name.clone().expect("a name"), *set);
                }
                Step::Update {
                    old,
                    replicas,
                    min_ready_seconds,
                    annotations,
                } => {
                    let set = self
                        .sets
                        .get_mut(old.metadata.name.as_deref().expect("a name"))
                        .expect("it is there");
                    let spec = set.spec.as_mut().expect("a spec");
                    spec.replicas = Some(replicas);
                    spec.min_ready_seconds = min_ready_seconds;
                    set.metadata.annotations = Some(annotations);
                }
                Step::Delete(old) => {
                    assert_eq!(old.spec.as_ref().and_then(|s| s.replicas), Some(0));
                    self.sets
                        .remove(old.metadata.name.as_deref().expect("a name"));
                }
                Step::Annotate(annotations) => {
                    changed |= self.deployment.metadata.annotations.as_ref() != Some(&annotations);
                    self.deployment.metadata.annotations = Some(annotations);
                }
            }
        }
        changed
    }

    /// Each ReplicaSet gets or loses pods, and up to `ready` of them are available.
    fn pods(&mut self, ready: i32) -> bool {
        let mut changed = false;
        for set in self.sets.values_mut() {
            let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
            let status = set.status.get_or_insert_default();
            let before = status.clone();
            status.replicas = replicas;
            status.observed_generation = set.metadata.generation;
            let was = status.available_replicas.unwrap_or(0).min(replicas);
            let available = (was + ready).min(replicas);
            status.available_replicas = Some(available);
            status.ready_replicas = Some(available);
            changed |= before != *status;
        }
        changed
    }

    fn settle(&mut self, ready: i32) {
        for _ in 0..500 {
            let (a, b) = (self.step(), self.pods(ready));
            if !a && !b {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.plan());
    }

    fn image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().expect("a spec");
        let pod = spec.template.spec.as_mut().expect("a spec");
        pod.containers[0].image = Some(image.to_owned());
        *self.deployment.metadata.generation.get_or_insert(0) += 1;
    }

    fn replicas(&self) -> Vec<i32> {
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| annotations::revision(&set.metadata));
        sets.iter()
            .filter_map(|set| set.spec.as_ref()?.replicas)
            .collect()
    }

    fn reason(&self, type_: &str) -> String {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone());
        let all = conditions.unwrap_or_default();
        status::find(&all, type_)
            .and_then(|c| c.reason.clone())
            .unwrap_or_default()
    }
}

fn rolling(replicas: i32, surge: Value, unavailable: Value) -> Value {
    json!({
        "replicas": replicas, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
    })
}

#[test]
fn a_first_rollout() {
    let mut cluster = Cluster::new(rolling(3, json!("25%"), json!("25%")));
    cluster.settle(1);
    assert_eq!(cluster.replicas(), [3]);
    let set = cluster.sets.values().next().expect("a ReplicaSet");
    let hash = set
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get("pod-template-hash"))
        .expect("a hash");
    assert_eq!(
        set.metadata.name.as_deref(),
        Some(format!("web-{hash}").as_str())
    );
    let spec = set.spec.as_ref().expect("a spec");
    let selected = spec
        .selector
        .match_labels
        .as_ref()
        .and_then(|l| l.get("pod-template-hash"));
    assert_eq!(selected, Some(hash));
    let annotations = set.metadata.annotations.clone().expect("annotations");
    let annotations: Vec<_> = annotations
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let wanted = [
        ("deployment.kubernetes.io/desired-replicas", "3"),
        ("deployment.kubernetes.io/max-replicas", "4"),
        ("deployment.kubernetes.io/revision", "1"),
        ("team", "a"),
    ];
    assert_eq!(annotations, wanted);
    let name = set.metadata.name.clone().expect("a name");
    assert_eq!(
        cluster.events,
        [format!("Scaled up replica set {name} from 0 to 3")]
    );
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
    assert_eq!(cluster.reason("Available"), "MinimumReplicasAvailable");
    assert!(!cluster.step(), "nothing is left to do");
}

#[test]
fn history_is_kept_and_an_undo_is_a_new_revision() {
    let mut cluster = Cluster::new(rolling(2, json!(1), json!(0)));
    for image in ["one", "two", "three", "four"] {
        cluster.image(image);
        cluster.settle(1);
    }
    assert_eq!(cluster.replicas(), [0, 0, 2], "two old ones are kept");
    cluster.image("three");
    cluster.settle(1);
    assert_eq!(cluster.replicas(), [0, 0, 2]);
    let annotations = cluster
        .deployment
        .metadata
        .annotations
        .clone()
        .expect("annotations");
    assert_eq!(
        annotations.get(annotations::REVISION).map(String::as_str),
        Some("5")
    );
    let newest = cluster
        .sets
        .values()
        .find(|set| set.spec.as_ref().and_then(|s| s.replicas) == Some(2));
    let newest = newest
        .and_then(|set| set.metadata.annotations.clone())
        .expect("annotations");
    let history = newest.get("deployment.kubernetes.io/revision-history");
    assert_eq!(history.map(String::as_str), Some("3"));
}

#[test]
fn a_paused_deployment_is_scaled_and_not_rolled() {
    let mut cluster = Cluster::new(rolling(4, json!(1), json!(1)));
    cluster.settle(4);
    cluster.deployment.spec.as_mut().expect("a spec").paused = Some(true);
    cluster.image("two");
    cluster.deployment.spec.as_mut().expect("a spec").replicas = Some(6);
    cluster.settle(4);
    assert_eq!(cluster.replicas(), [6]);
    assert_eq!(cluster.reason("Progressing"), "DeploymentPaused");
    cluster.deployment.spec.as_mut().expect("a spec").paused = None;
    cluster.settle(4);
    assert_eq!(cluster.replicas(), [0, 6]);
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn a_rollout_that_stands_still_times_out() {
    let mut cluster = Cluster::new(rolling(3, json!(1), json!(1)));
    cluster.settle(3);
    cluster.image("broken");
    for _ in 0..20 {
        cluster.step();
        // No new pod becomes available.
        for set in cluster.sets.values_mut() {
            let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
            let is_old = set
                .metadata
                .annotations
                .as_ref()
                .and_then(|a| a.get(annotations::REVISION))
                .map(String::as_str)
                == Some("1");
            let status = set.status.get_or_insert_default();
            status.replicas = replicas;
            status.available_replicas = Some(if is_old { replicas } else { 0 });
        }
    }
    assert_eq!(cluster.replicas(), [2, 2], "two of the old ones go on");
    let next = cluster.plan().next.expect("a deadline").as_secs();
    assert!((500..=601).contains(&next), "{next}");
    cluster.now += 700;
    cluster.step();
    assert_eq!(cluster.reason("Progressing"), "ProgressDeadlineExceeded");
    assert_eq!(cluster.plan().next, None);
    assert_eq!(cluster.reason("Available"), "MinimumReplicasAvailable");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut cluster = Cluster::new(json!({"replicas": 3, "strategy": {"type": "Recreate"}}));
    cluster.settle(3);
    cluster.image("two");
    cluster.step();
    assert_eq!(cluster.replicas(), [0]);
    cluster.pods(3);
    let set = cluster
        .sets
        .values()
        .next()
        .expect("a ReplicaSet")
        .metadata
        .clone();
    let pod: Pod = object(json!({
        "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.name, "uid": set.uid, "controller": true}]},
        "status": {"phase": "Running"},
    }));
    let sets: Vec<_> = cluster.sets.values().cloned().map(Arc::new).collect();
    let waiting = plan(
        &cluster.deployment,
        &sets,
        &[Arc::new(pod)],
        at(cluster.now),
    );
    assert_eq!(waiting.steps, []);
    cluster.settle(3);
    assert_eq!(cluster.replicas(), [0, 3]);
}

#[test]
fn a_name_that_is_taken() {
    let cluster = Cluster::new(rolling(1, json!(1), json!(0)));
    let steps = cluster.plan().steps;
    let Some(Step::Create(mut set)) = steps.into_iter().next() else {
        panic!("nothing is created");
    };
    assert_eq!(Taken::of(&cluster.deployment, &set), Taken::Same);
    let name = set.metadata.name.clone();
    set.metadata.owner_references = None;
    assert_eq!(Taken::of(&cluster.deployment, &set), Taken::Other);
    let mut other = cluster.deployment.clone();
    other.status.get_or_insert_default().collision_count = Some(1);
    let Some(Step::Create(set)) = plan(&other, &[], &[], at(0)).steps.into_iter().next() else {
        panic!("nothing is created");
    };
    assert_ne!(set.metadata.name, name);
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4_i32).prop_map(|n| json!(n)),
        (0..100_i32).prop_map(|n| json!(format!("{n}%")))
    ]
}

proptest! {
    /// However a rollout goes: never too many pods, never too few that are available, and it ends.
    #[test]
    fn rollouts_keep_their_bounds(
        replicas in 0..20_i32, surge in amount(), unavailable in amount(), ready in 1..4_i32,
        changes in prop::collection::vec((0..12_usize, prop::option::of(0..20_i32)), 1..5),
    ) {
        let mut cluster = Cluster::new(rolling(replicas, surge, unavailable));
        cluster.settle(ready);
        for (at, (steps, replicas)) in changes.into_iter().enumerate() {
            let spec = cluster.deployment.spec.clone().expect("a spec");
            if let Some(replicas) = replicas {
                cluster.settle(ready);
                cluster.deployment.spec.as_mut().expect("a spec").replicas = Some(replicas);
                cluster.settle(ready);
            } else {
                cluster.image(&format!("image-{at}"));
                let limits = Limits::of(&spec);
                for _ in 0..steps {
                    let available: i32 = cluster.sets.values()
                        .filter_map(|set| set.status.as_ref()?.available_replicas).sum();
                    cluster.step();
                    let total: i32 = cluster.replicas().iter().sum();
                    prop_assert!(total <= limits.most(), "{total} pods of at most {}", limits.most());
                    // What was available and stays wanted.
                    let kept: i32 = cluster.sets.values().map(|set| {
                        let available = set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
                        available.min(set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0))
                    }).sum();
                    let least = (limits.replicas - limits.unavailable).min(available);
                    prop_assert!(kept >= least, "{kept} available of at least {least}");
                    cluster.pods(ready);
                }
            }
        }
        cluster.settle(ready);
        let spec = cluster.deployment.spec.clone().expect("a spec");
        let last = cluster.replicas();
        prop_assert_eq!(last.iter().sum::<i32>(), spec.replicas.unwrap_or(1));
        prop_assert_eq!(cluster.deployment.status.as_ref().and_then(|s| s.updated_replicas).unwrap_or(0), spec.replicas.unwrap_or(1));
        prop_assert!(last.len() <= 3);
    }
}
