//! A StatefulSet in a cluster that does what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::*;
use crate::revision::{Newest, newest};
use crate::tests::{at, object};

struct Cluster {
    set: StatefulSet,
    history: Vec<Arc<ControllerRevision>>,
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    created: usize,
    now: i64,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"db": "x"}});
        spec["serviceName"] = json!("db");
        spec["template"] = json!({"metadata": {"labels": {"db": "x"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
        Self {
            set: object(
                json!({"metadata": {"name": "db", "namespace": "n", "uid": "set"}, "spec": spec}),
            ),
            history: Vec::new(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            created: 0,
            now: 0,
        }
    }

    fn update(&mut self) -> Arc<ControllerRevision> {
        let template = &self.set.spec.as_ref().expect("a spec").template;
        let newest = newest::<StatefulSet>(&self.set.metadata, template, None, &self.history);
        let update = match newest {
            Newest::Present(revision) => return revision,
            Newest::Create(revision) => Arc::new(*revision),
            Newest::Raise(old, number) => {
                self.history
                    .retain(|r| r.metadata.name != old.metadata.name);
                Arc::new(ControllerRevision {
                    revision: number,
                    ..ControllerRevision::clone(&old)
                })
            }
        };
        self.history.push(Arc::clone(&update));
        update
    }

    fn plan(&mut self) -> Plan {
        let update = self.update();
        let named = self
            .set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.clone());
        let current = self
            .history
            .iter()
            .find(|r| r.metadata.name == named)
            .unwrap_or(&update);
        let pods: Vec<_> = self.pods.values().cloned().map(Arc::new).collect();
        let claims: Vec<_> = self.claims.values().cloned().collect();
        let owned = Owned {
            pods: &pods,
            claims: &claims,
            update: &update,
            current,
        };
        plan(&self.set, &owned, at(self.now))
    }

    fn step(&mut self) -> bool {
        self.now += 1;
        let plan = self.plan();
        let changed = self.set.status.as_ref() != Some(&plan.status)
            || !plan.create.is_empty()
            || !plan.delete.is_empty()
            || !plan.ended.is_empty()
            || !plan.claims.is_empty()
            || !plan.repair.is_empty();
        self.set.status = Some(plan.status);
        for claim in plan.claims {
            let claim = match claim {
                Claim::Create(claim) => *claim,
                Claim::Own(old, owners) => {
                    let mut claim = PersistentVolumeClaim::clone(&old);
                    claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
                    claim
                }
            };
            self.claims.insert(
                claim.metadata.name.clone().expect("a name"),
                Arc::new(claim),
            );
        }
        for (pod, labels) in plan.repair {
            let name = pod.metadata.name.as_deref().expect("a name");
            let pod = self.pods.get_mut(name).expect("it is there");
            pod.metadata.labels.get_or_insert_default().extend(labels);
        }
        for mut pod in plan.create {
            pod.metadata.uid = Some(format!("uid-{}", self.created));
            self.created += 1;
            pod.status = Some(object(json!({"phase": "Pending"})));
            let name = pod.metadata.name.clone().expect("a name");
            assert!(
                self.pods.insert(name, pod).is_none(),
                "there was one already"
            );
        }
        for pod in plan.delete.into_iter().chain(plan.ended) {
            let name = pod.metadata.name.as_deref().expect("a name");
            let gone = self
                .pods
                .remove(name)
                .expect("it is there")
                .metadata
                .uid
                .expect("a UID");
            self.claims.retain(|_, claim| {
                let mut owners = claim.metadata.owner_references.iter().flatten();
                !owners.any(|owner| owner.uid == gone)
            });
        }
        changed
    }

    fn ready(&mut self, name: &str) {
        let now = at(self.now).to_string();
        self.pods.get_mut(name).expect("it is there").status =
            Some(object(json!({"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]})));
    }

    /// One step, then all pods are ready; until nothing changes. The states on the way.
    fn settle(&mut self) -> Vec<String> {
        let mut seen = vec![self.show()];
        for _ in 0..100 {
            let changed = self.step();
            if seen.last() != Some(&self.show()) {
                seen.push(self.show());
            }
            let waiting: Vec<_> = self
                .pods
                .iter()
                .filter(|(_, p)| !crate::pod::is_ready(p))
                .map(|(n, _)| n.clone())
                .collect();
            waiting.iter().for_each(|name| self.ready(name));
            if !changed && waiting.is_empty() {
                return seen;
            }
        }
        panic!("it does not settle: {seen:?}");
    }

    /// Numbers and images of the pods.
    fn show(&self) -> String {
        let of = |(name, pod): (&String, &Pod)| {
            let image = pod
                .spec
                .as_ref()
                .and_then(|s| s.containers[0].image.clone())
                .unwrap_or_default();
            format!("{}{}", name.trim_start_matches("db-"), &image[..1])
        };
        self.pods.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    fn spec(&mut self) -> &mut k8s_openapi::api::apps::v1::StatefulSetSpec {
        self.set.spec.as_mut().expect("a spec")
    }

    fn image(&mut self, image: &str) {
        self.spec()
            .template
            .spec
            .as_mut()
            .expect("a spec")
            .containers[0]
            .image = Some(image.to_owned());
    }
}

#[test]
fn one_after_the_other_up_and_down() {
    let mut cluster = Cluster::new(json!({"replicas": 3}));
    assert_eq!(cluster.settle(), ["", "0o", "0o 1o", "0o 1o 2o"]);
    let pod = cluster.pods["db-1"].clone();
    let spec = pod.spec.expect("a spec");
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-1"), Some("db"))
    );
    let labels = pod.metadata.labels.expect("labels");
    assert_eq!(
        labels
            .get("apps.kubernetes.io/pod-index")
            .map(String::as_str),
        Some("1")
    );
    cluster.spec().replicas = Some(1);
    assert_eq!(cluster.settle(), ["0o 1o 2o", "0o 1o", "0o"]);
    // One that is not well holds up the next.
    cluster.pods.get_mut("db-0").expect("a pod").status = None;
    cluster.spec().replicas = Some(2);
    cluster.step();
    assert_eq!(cluster.show(), "0o");
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!((status.replicas, status.ready_replicas), (1, None));
}

#[test]
fn all_at_once_where_the_order_is_no_matter() {
    let mut cluster = Cluster::new(
        json!({"replicas": 3, "podManagementPolicy": "Parallel", "ordinals": {"start": 5}}),
    );
    assert_eq!(cluster.settle(), ["", "5o 6o 7o"]);
    cluster.spec().replicas = Some(0);
    assert_eq!(cluster.settle(), ["5o 6o 7o", ""]);
}

#[test]
fn an_update_goes_from_the_highest_to_the_partition() {
    let mut cluster = Cluster::new(
        json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}),
    );
    cluster.settle();
    cluster.image("two");
    assert_eq!(
        cluster.settle(),
        ["0o 1o 2o", "0o 1o", "0o 1o 2t", "0o 2t", "0o 1t 2t"]
    );
    let status = cluster.set.status.clone().expect("a status");
    assert_ne!(status.current_revision, status.update_revision);
    assert_eq!(
        (status.current_replicas, status.updated_replicas),
        (Some(1), Some(2))
    );
    // Below the partition a new pod is of the old template.
    cluster.pods.remove("db-0");
    assert_eq!(cluster.settle(), ["1t 2t", "0o 1t 2t"]);
    let rolling = cluster
        .spec()
        .update_strategy
        .as_mut()
        .and_then(|s| s.rolling_update.as_mut());
    rolling.expect("a strategy").partition = Some(0);
    assert_eq!(cluster.settle(), ["0o 1t 2t", "1t 2t", "0t 1t 2t"]);
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!(status.current_revision, status.update_revision);
    // Back to the first template: its revision gets a new number.
    cluster.image("one");
    cluster.settle();
    assert_eq!(cluster.show(), "0o 1o 2o");
    assert_eq!(
        cluster
            .history
            .iter()
            .map(|r| r.revision)
            .collect::<Vec<_>>(),
        [2, 3]
    );
}

#[test]
fn on_delete_it_waits_for_somebody() {
    let mut cluster = Cluster::new(json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}}));
    cluster.settle();
    cluster.image("two");
    assert_eq!(cluster.settle(), ["0o 1o"]);
    cluster.pods.remove("db-0");
    assert_eq!(cluster.settle(), ["1o", "0t 1o"]);
}

#[test]
fn a_pod_that_has_ended_is_made_anew() {
    let mut cluster = Cluster::new(json!({"replicas": 2}));
    cluster.settle();
    cluster.pods.get_mut("db-0").expect("a pod").status = Some(object(json!({"phase": "Failed"})));
    let plan = cluster.plan();
    assert_eq!(plan.ended.len(), 1);
    assert_eq!(cluster.settle(), ["0o 1o", "1o", "0o 1o"]);
    // Whoever takes a pod's labels away gets them back.
    let labels = cluster
        .pods
        .get_mut("db-0")
        .and_then(|p| p.metadata.labels.as_mut());
    labels
        .expect("labels")
        .remove("statefulset.kubernetes.io/pod-name");
    assert_eq!(cluster.plan().repair.len(), 1);
}

#[test]
fn claims_stay_or_go_with_their_pods() {
    let template =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    for (when_scaled, left) in [("Retain", 3), ("Delete", 1)] {
        let mut cluster = Cluster::new(json!({
            "replicas": 3, "volumeClaimTemplates": template,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": when_scaled},
        }));
        cluster.settle();
        assert_eq!(
            cluster.claims.keys().collect::<Vec<_>>(),
            ["data-db-0", "data-db-1", "data-db-2"]
        );
        let claim = &cluster.claims["data-db-1"].metadata;
        assert_eq!(
            claim
                .labels
                .as_ref()
                .and_then(|l| l.get("db"))
                .map(String::as_str),
            Some("x")
        );
        assert_eq!(
            claim.owner_references.as_ref().map(|o| o[0].uid.clone()),
            Some("set".to_owned())
        );
        let volumes = cluster.pods["db-1"]
            .spec
            .as_ref()
            .and_then(|s| s.volumes.clone())
            .expect("volumes");
        let name = volumes[0]
            .persistent_volume_claim
            .as_ref()
            .map(|c| c.claim_name.as_str());
        assert_eq!(name, Some("data-db-1"));
        cluster.spec().replicas = Some(1);
        cluster.settle();
        assert_eq!(cluster.claims.len(), left, "{when_scaled}");
        cluster.spec().replicas = Some(2);
        cluster.settle();
        let claim = &cluster.claims["data-db-1"].metadata;
        assert_eq!(
            claim.owner_references.as_ref().map(|o| o[0].uid.clone()),
            Some("set".to_owned())
        );
    }
}

#[test]
fn only_its_own_numbers() {
    let set = json!({"name": "db"});
    for (name, wanted) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-01", None),
        ("db--1", None),
        ("db-", None),
        ("dbx-1", None),
        ("db-9999999999", None),
    ] {
        let pod: Pod = object(json!({"metadata": {"name": name}}));
        assert_eq!(ordinal_of(&object(set.clone()), &pod), wanted, "{name}");
    }
}
