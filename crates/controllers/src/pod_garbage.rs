//! Pods that nobody else would remove: those of nodes that are gone, deleted ones that never got a node,
//! and old finished ones above the threshold.

use berth_core::pod::is_finished;
use berth_supervise::Brief;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Reflected;
use crate::server::{is_code, only};

const PERIOD: Duration = Duration::from_secs(20);
/// A node that is missing may be just about to register; its pods wait this long (stock: 40 s).
const QUARANTINE: Duration = Duration::from_secs(40);

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    threshold: usize,
    nodes: Reflected<Node>,
    pods: Reflected<Pod>,
    shutdown: CancellationToken,
) {
    let mut missing = MissingNodes::default();
    loop {
        if nodes.is_complete() && pods.is_complete() {
            let present: HashSet<String> = nodes.all().iter().map(|node| node.name_any()).collect();
            let all = pods.all();
            let gone = missing.gone(&all, &present, Instant::now());
            for (pod, why) in garbage(&all, &gone, threshold) {
                remove(&client, &pod, why).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Since when nodes that pods are bound to have been missing.
#[derive(Debug, Default)]
pub struct MissingNodes(HashMap<String, Instant>);

impl MissingNodes {
    /// Nodes that pods name and that have been missing for the whole quarantine.
    pub fn gone(
        &mut self,
        pods: &[Arc<Pod>],
        present: &HashSet<String>,
        now: Instant,
    ) -> HashSet<String> {
        let missing: HashSet<String> = pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
            .filter(|node| !node.is_empty() && !present.contains(node))
            .collect();
        self.0.retain(|node, _| missing.contains(node));
        for node in missing {
            self.0.entry(node).or_insert(now);
        }
        self.0
            .iter()
            .filter(|(_, since)| now.saturating_duration_since(**since) >= QUARANTINE)
            .map(|(node, _)| node.clone())
            .collect()
    }
}

/// The pods to remove, each with the reason.
#[must_use]
pub fn garbage(
    pods: &[Arc<Pod>],
    gone: &HashSet<String>,
    threshold: usize,
) -> Vec<(Arc<Pod>, &'static str)> {
    let mut found = Vec::new();
    let mut finished = Vec::new();
    for pod in pods {
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        if gone.contains(node) {
            found.push((Arc::clone(pod), "its node is gone"));
        } else if node.is_empty() && pod.metadata.deletion_timestamp.is_some() {
            found.push((Arc::clone(pod), "it was deleted before it got a node"));
        } else if is_finished(pod) && pod.metadata.deletion_timestamp.is_none() {
            finished.push(pod);
        }
    }
    if threshold > 0 && finished.len() > threshold {
        finished.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
        let surplus = finished.len() - threshold;
        found.extend(
            finished[..surplus]
                .iter()
                .map(|pod| (Arc::clone(pod), "too many finished pods are kept")),
        );
    }
    found
}

async fn remove(client: &Client, pod: &Pod, why: &str) {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        ..only(&pod.metadata)
    };
    match api.delete(&name, &params).await {
        Ok(_) => info!(namespace, pod = name, why, "removed a pod"),
        Err(error) if is_code(&error, &[404, 409]) => {}
        Err(error) => {
            warn!(namespace, pod = name, error = %Brief(&error), "cannot remove a pod yet")
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_testkit::PodBuilder;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn names(found: &[(Arc<Pod>, &str)]) -> Vec<String> {
        found.iter().map(|(pod, _)| pod.name_any()).collect()
    }

    #[test]
    fn pods_of_a_missing_node_wait_out_the_quarantine() {
        let pods = [Arc::new(PodBuilder::new("p").node("n").build())];
        let (mut missing, start) = (MissingNodes::default(), Instant::now());
        assert!(missing.gone(&pods, &HashSet::new(), start).is_empty());
        let gone = missing.gone(&pods, &HashSet::new(), start + QUARANTINE);
        assert_eq!(names(&garbage(&pods, &gone, 10)), ["p"]);
        let back = HashSet::from(["n".to_owned()]);
        assert!(missing.gone(&pods, &back, start + QUARANTINE).is_empty());
        assert!(
            missing
                .gone(&pods, &HashSet::new(), start + QUARANTINE)
                .is_empty(),
            "starts anew"
        );
    }

    #[test]
    fn a_deleted_pod_without_a_node_goes() {
        let mut pod = PodBuilder::new("p").build();
        assert!(garbage(&[Arc::new(pod.clone())], &HashSet::new(), 10).is_empty());
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(
            names(&garbage(&[Arc::new(pod)], &HashSet::new(), 10)),
            ["p"]
        );
    }

    #[test]
    fn the_oldest_finished_pods_go_above_the_threshold() {
        let pods: Vec<Arc<Pod>> = [3_u64, 1, 2]
            .iter()
            .map(|age| {
                let mut pod = PodBuilder::new(&format!("p{age}"))
                    .node("n")
                    .phase("Succeeded")
                    .build();
                let born = jiff::Timestamp::UNIX_EPOCH + Duration::from_secs(*age);
                pod.metadata.creation_timestamp = Some(Time(born));
                Arc::new(pod)
            })
            .collect();
        assert_eq!(names(&garbage(&pods, &HashSet::new(), 1)), ["p1", "p2"]);
        assert!(garbage(&pods, &HashSet::new(), 3).is_empty());
    }
}
