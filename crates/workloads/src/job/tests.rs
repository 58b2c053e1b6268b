//! A Job in a cluster that does what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::{at, object};

struct Cluster {
    job: Job,
    pods: BTreeMap<String, Pod>,
    created: usize,
    now: i64,
    reasons: Vec<&'static str>,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let mut spec = spec;
        spec["template"] = json!({"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}});
        Self {
            job: object(
                json!({"metadata": {"name": "j", "namespace": "n", "uid": "j"}, "spec": spec}),
            ),
            pods: BTreeMap::new(),
            created: 0,
            now: 0,
            reasons: Vec::new(),
        }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.values().cloned().map(Arc::new).collect();
        plan(&self.job, &pods, at(self.now))
    }

    /// Carries a plan out, up to this many of its parts: the controller may die after each.
    fn step_some(&mut self, parts: usize) -> bool {
        let plan = self.plan();
        let changed = self.job.status.as_ref() != Some(&plan.status)
            || !plan.delete.is_empty()
            || !plan.create.is_empty()
            || !plan.release.is_empty();
        self.reasons.extend(plan.events.iter().map(|e| e.reason));
        if parts > 0 {
            for pod in &plan.delete {
                self.delete(pod.metadata.name.as_deref().expect("a name"));
            }
        }
        if parts > 1 {
            for pod in plan.create {
                self.create(pod);
            }
        }
        if parts > 2 {
            self.job.status = Some(plan.status);
        }
        if parts > 3 {
            for pod in plan.release {
                let name = pod.metadata.name.as_deref().expect("a name");
                if let Some(pod) = self.pods.get_mut(name) {
                    pod.metadata.finalizers = None;
                    if pod.metadata.deletion_timestamp.is_some() {
                        self.pods.remove(name);
                    }
                }
            }
        }
        changed
    }

    fn create(&mut self, mut pod: Pod) {
        let name = format!(
            "{}{:03}",
            pod.metadata.generate_name.as_deref().expect("a prefix"),
            self.created
        );
        self.created += 1;
        pod.metadata.uid = Some(format!("uid-{name}"));
        pod.metadata.name = Some(name.clone());
        pod.metadata.namespace = Some("n".to_owned());
        pod.metadata.creation_timestamp = Some(Time(at(self.now)));
        pod.status = Some(object(json!({"phase": "Running"})));
        self.pods.insert(name, pod);
    }

    fn delete(&mut self, name: &str) {
        let pod = self.pods.get_mut(name).expect("it is there");
        if pod.metadata.finalizers.is_none() {
            self.pods.remove(name);
        } else {
            pod.metadata.deletion_timestamp = Some(Time(at(self.now)));
            // The node ends it at once.
            self.end(&name.to_owned(), 143);
        }
    }

    fn end(&mut self, name: &String, code: i32) {
        let pod = self.pods.get_mut(name).expect("it is there");
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        pod.status = Some(object(json!({"phase": phase, "containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"exitCode": code, "finishedAt": at(self.now).to_string()}}}]})));
    }

    fn running(&self) -> Vec<String> {
        let is_running = |pod: &&Pod| crate::pod::is_active(pod);
        self.pods
            .values()
            .filter(is_running)
            .filter_map(|p| p.metadata.name.clone())
            .collect()
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            if !self.step_some(4) {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.plan());
    }

    fn end_all(&mut self, code: i32) {
        for name in self.running() {
            self.end(&name, code);
        }
        self.settle();
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn conditions(&self) -> Vec<(String, String)> {
        let all = self.status().conditions.unwrap_or_default();
        let all = all.into_iter().filter(|c| c.status == "True");
        all.map(|c| (c.type_, c.reason.unwrap_or_default()))
            .collect()
    }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn so_many_at_a_time_until_enough_have_succeeded() {
    let mut cluster = Cluster::new(json!({"parallelism": 2, "completions": 5}));
    cluster.settle();
    assert_eq!(cluster.running().len(), 2);
    assert_eq!(
        (cluster.status().active, cluster.status().ready),
        (Some(2), Some(0))
    );
    assert_eq!(cluster.status().start_time, Some(Time(at(0))));
    for left in [2, 1, 0] {
        cluster.now += 1;
        cluster.end_all(0);
        assert_eq!(cluster.running().len(), left);
    }
    let status = cluster.status();
    assert_eq!(
        (
            status.succeeded,
            status.failed,
            status.active,
            cluster.created
        ),
        (Some(5), None, None, 5)
    );
    assert_eq!(status.completion_time, Some(Time(at(3))));
    let reached = pairs(&[
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ]);
    assert_eq!(cluster.conditions(), reached);
    assert_eq!(cluster.reasons, ["Completed"]);
    assert!(
        cluster
            .pods
            .values()
            .all(|pod| pod.metadata.finalizers.is_none())
    );
}

#[test]
fn a_work_queue_ends_with_its_workers() {
    let mut cluster = Cluster::new(json!({"parallelism": 3}));
    cluster.settle();
    let first = cluster.running()[0].clone();
    cluster.end(&first, 0);
    cluster.settle();
    assert_eq!(cluster.running().len(), 2, "none is made after a success");
    cluster.end_all(0);
    assert!(is_finished(&cluster.job));
    assert_eq!(cluster.status().succeeded, Some(3));
}

#[test]
fn failures_wait_and_end_it() {
    let mut cluster = Cluster::new(json!({"parallelism": 1, "completions": 1, "backoffLimit": 2}));
    cluster.settle();
    for pause in [10, 20] {
        cluster.end_all(1);
        assert_eq!(cluster.running().len(), 0);
        let next = cluster.plan().next.expect("a pause").as_secs();
        assert_eq!(next, pause);
        cluster.now += i64::try_from(pause).expect("small");
        cluster.settle();
        assert_eq!(cluster.running().len(), 1);
    }
    cluster.end_all(1);
    let reason = "BackoffLimitExceeded";
    assert_eq!(
        cluster.conditions(),
        pairs(&[("FailureTarget", reason), ("Failed", reason)])
    );
    assert_eq!(
        (cluster.status().failed, cluster.status().completion_time),
        (Some(3), None)
    );
    assert_eq!(cluster.reasons, [reason]);
}

#[test]
fn a_deadline_ends_it_and_its_pods() {
    let mut cluster =
        Cluster::new(json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 30}));
    cluster.settle();
    assert_eq!(cluster.plan().next.map(|d| d.as_secs()), Some(30));
    cluster.now = 30;
    cluster.step_some(4);
    assert_eq!(
        cluster.conditions(),
        pairs(&[("FailureTarget", "DeadlineExceeded")]),
        "not before its pods have ended"
    );
    cluster.settle();
    let reason = "DeadlineExceeded";
    assert_eq!(
        cluster.conditions(),
        pairs(&[("FailureTarget", reason), ("Failed", reason)])
    );
    assert_eq!(cluster.status().failed, Some(2));
}

#[test]
fn suspended_it_has_no_pods_and_no_clock() {
    let mut cluster =
        Cluster::new(json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 30}));
    cluster.settle();
    let suspend =
        |cluster: &mut Cluster, is| cluster.job.spec.as_mut().expect("a spec").suspend = Some(is);
    suspend(&mut cluster, true);
    cluster.settle();
    assert_eq!(
        (cluster.running().len(), cluster.status().start_time),
        (0, None)
    );
    assert_eq!(
        cluster.conditions(),
        pairs(&[("Suspended", "JobSuspended")])
    );
    cluster.now = 100;
    cluster.settle();
    suspend(&mut cluster, false);
    cluster.now = 200;
    cluster.settle();
    assert_eq!(
        (cluster.running().len(), cluster.status().start_time),
        (2, Some(Time(at(200))))
    );
    assert_eq!(cluster.reasons, ["Suspended", "Resumed"]);
}

#[test]
fn each_index_has_its_pod() {
    let mut cluster =
        Cluster::new(json!({"parallelism": 3, "completions": 6, "completionMode": "Indexed"}));
    cluster.settle();
    let pod = cluster.pods.values().next().expect("a pod");
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-0-"));
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.hostname.as_deref(), Some("j-0"));
    let env = spec.containers[0].env.as_ref().expect("variables");
    assert_eq!(env[0].name, "JOB_COMPLETION_INDEX");
    // The second ends first.
    let second = cluster.running()[1].clone();
    cluster.end(&second, 0);
    cluster.settle();
    assert_eq!(cluster.status().completed_indexes.as_deref(), Some("1"));
    let indexes: Vec<_> = cluster
        .running()
        .iter()
        .map(|name| name[2..3].to_owned())
        .collect();
    assert_eq!(indexes, ["0", "2", "3"]);
    cluster.end_all(0);
    assert_eq!(cluster.status().completed_indexes.as_deref(), Some("0-3"));
    // Fewer at a time: the highest goes.
    cluster.job.spec.as_mut().expect("a spec").parallelism = Some(1);
    cluster.settle();
    assert_eq!(cluster.running()[0][2..3], *"4");
    cluster.now += 1000;
    cluster.settle();
    cluster.end_all(0);
    cluster.end_all(0);
    assert!(is_finished(&cluster.job));
    assert_eq!(cluster.status().succeeded, Some(6));
}

#[test]
fn an_index_fails_by_itself() {
    let mut cluster = Cluster::new(json!({
        "parallelism": 3, "completions": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
    }));
    cluster.settle();
    for _ in 0..2 {
        let failing = cluster
            .running()
            .into_iter()
            .find(|name| name.starts_with("j-1-"))
            .expect("index 1");
        cluster.end(&failing, 7);
        cluster.settle();
        cluster.now += 1000;
        cluster.settle();
    }
    let failures: Vec<i32> = cluster
        .pods
        .values()
        .filter(|pod| index_of(pod) == 1)
        .map(|pod| counts::number(pod, counts::FAILURES))
        .collect();
    assert_eq!(failures, [0, 1]);
    assert_eq!(cluster.status().failed_indexes.as_deref(), Some("1"));
    assert_eq!(cluster.running().len(), 2, "the others go on");
    cluster.end_all(0);
    assert_eq!(
        cluster.conditions(),
        pairs(&[
            ("FailureTarget", "FailedIndexes"),
            ("Failed", "FailedIndexes")
        ])
    );
    assert_eq!(cluster.status().completed_indexes.as_deref(), Some("0,2"));
}

fn index_of(pod: &Pod) -> i32 {
    indexes::index_of(pod, 1000).expect("an index")
}

#[test]
fn a_success_policy_needs_not_all() {
    let mut cluster = Cluster::new(json!({
        "parallelism": 4, "completions": 4, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 2}, {"succeededIndexes": "2-3", "succeededCount": 1}]},
    }));
    cluster.settle();
    let third = cluster.running()[2].clone();
    cluster.end(&third, 0);
    cluster.settle();
    let met = pairs(&[
        ("SuccessCriteriaMet", "SuccessPolicy"),
        ("Complete", "SuccessPolicy"),
    ]);
    assert_eq!(cluster.conditions(), met);
    assert_eq!(
        (cluster.running().len(), cluster.status().succeeded),
        (0, Some(1))
    );
}

#[test]
fn a_failure_policy_tells_failures_apart() {
    let policy = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
    ]});
    let mut cluster = Cluster::new(json!({
        "parallelism": 1, "completions": 1, "backoffLimit": 0, "podFailurePolicy": policy,
    }));
    cluster.settle();
    let name = cluster.running()[0].clone();
    cluster.end(&name, 1);
    let pod = cluster.pods.get_mut(&name).expect("a pod");
    let conditions = json!([{"type": "DisruptionTarget", "status": "True"}]);
    pod.status.as_mut().expect("a status").conditions = Some(object(conditions));
    cluster.settle();
    cluster.now += 1000;
    cluster.settle();
    assert_eq!(
        (cluster.status().failed, cluster.running().len()),
        (None, 1),
        "ignored and replaced"
    );
    cluster.end_all(42);
    let conditions = cluster.status().conditions.expect("conditions");
    let message = conditions[0].message.as_deref();
    let wanted =
        "Container c for pod n/j-001 failed with exit code 42 matching FailJob rule at index 1";
    assert_eq!(message, Some(wanted));
    assert!(is_finished(&cluster.job));
}

#[test]
fn sets_of_indexes_as_text() {
    for (text, wanted) in [
        ("", ""),
        ("3", "3"),
        ("1,2", "1,2"),
        ("0-2,4,6-7", "0-2,4,6,7"),
        ("x,5-,9", "9"),
        ("2-1000000000", "2-9"),
    ] {
        assert_eq!(indexes::format(&indexes::parse(text, 10)), wanted, "{text}");
    }
}

#[test]
fn others_have_theirs() {
    let mut cluster = Cluster::new(json!({"managedBy": "example.com/other"}));
    assert!(is_managed_by_another(&cluster.job));
    cluster.job.spec.as_mut().expect("a spec").managed_by = Some(CONTROLLER.to_owned());
    assert!(!is_managed_by_another(&cluster.job));
}

proptest! {
    /// Wherever the controller dies, whatever ends how: each pod is counted once, and there are never too many.
    #[test]
    fn each_pod_counts_once(
        parallelism in 1..5_i32, completions in 1..8_i32, indexed: bool,
        events in prop::collection::vec((0..6_usize, 0..5_usize, prop::bool::weighted(0.7)), 1..80),
    ) {
        let mut spec = json!({"parallelism": parallelism, "completions": completions, "backoffLimit": 1000});
        if indexed {
            spec["completionMode"] = json!("Indexed");
        }
        let mut cluster = Cluster::new(spec);
        let (mut succeeded, mut failed) = (0, 0);
        for (at, parts, well) in events {
            cluster.now += 700;
            let running = cluster.running();
            if let Some(name) = running.get(at) && cluster.status().completion_time.is_none() {
                cluster.end(name, i32::from(!well));
                if well { succeeded += 1 } else { failed += 1 }
            }
            cluster.step_some(parts);
            prop_assert!(cluster.running().len() <= usize::try_from(parallelism).expect("small"));
        }
        cluster.settle();
        prop_assert_eq!(cluster.status().failed.unwrap_or(0), failed);
        prop_assert_eq!(cluster.status().succeeded.unwrap_or(0), succeeded);
        prop_assert!(succeeded <= completions);
        prop_assert_eq!(is_finished(&cluster.job), succeeded == completions);
        let held = cluster.pods.values().filter(|pod| has_finalizer(pod) && !crate::pod::is_active(pod));
        prop_assert_eq!(held.count(), 0);
    }
}
