//! Toleration-based eviction: pods leave a node whose NoExecute taints they don't tolerate.
//!
//! A pod that tolerates all of them for a limited time leaves when the shortest such time is over, counted
//! from the taint's `timeAdded`.

use berth_supervise::Brief;
use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Reflected;
use crate::server::is_code;

const PERIOD: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(30);

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    mut nodes: Reflected<Node>,
    mut pods: Reflected<Pod>,
    shutdown: CancellationToken,
) {
    loop {
        let tainted: HashMap<String, Vec<Taint>> = nodes
            .all()
            .iter()
            .map(|node| (node.name_any(), evicting(node)))
            .filter(|(_, taints)| !taints.is_empty())
            .collect();
        if !tainted.is_empty() {
            for pod in pods.all() {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                let Some(taints) = node.and_then(|node| tainted.get(node)) else {
                    continue;
                };
                if pod.metadata.deletion_timestamp.is_none()
                    && let Some(at) = evict_at(&pod, taints)
                    && at <= Timestamp::now()
                {
                    evict(&client, &pod).await;
                }
            }
        }
        let period = if tainted.is_empty() { QUIET } else { PERIOD };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = nodes.changed_or(period) => {}
            () = pods.changed_or(period) => {}
        }
    }
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .cloned()
        .collect()
}

/// When the pod has to leave a node with these NoExecute taints; `None`: it may stay.
#[must_use]
pub fn evict_at(pod: &Pod, taints: &[Taint]) -> Option<Timestamp> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let mut leave: Option<Timestamp> = None;
    for taint in taints {
        let added = taint
            .time_added
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let mut matching = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if matching.peek().is_none() {
            return Some(Timestamp::UNIX_EPOCH);
        }
        // The shortest limit counts; one without a limit doesn't shorten.
        if let Some(seconds) = matching
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()
        {
            let at = added
                .checked_add(SignedDuration::from_secs(seconds.max(0)))
                .unwrap_or(Timestamp::MAX);
            leave = Some(leave.map_or(at, |sooner| sooner.min(at)));
        }
    }
    leave
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if set(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = set(&toleration.key);
    if key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            key.is_some()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

async fn evict(client: &Client, pod: &Pod) {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.uid(),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Ok(_) => info!(
            namespace,
            pod = name,
            "evicted: it doesn't tolerate its node's taints"
        ),
        Err(error) if is_code(&error, &[404, 409]) => {}
        Err(error) => warn!(namespace, pod = name, error = %Brief(&error), "cannot evict yet"),
    }
}

#[cfg(test)]
mod tests {
    use berth_testkit::PodBuilder;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn taint() -> Taint {
        Taint {
            key: "node.kubernetes.io/unreachable".into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(Timestamp::UNIX_EPOCH)),
            value: None,
        }
    }

    fn for_seconds(seconds: Option<i64>) -> Pod {
        let mut pod = PodBuilder::new("p")
            .tolerate("node.kubernetes.io/unreachable")
            .build();
        if let Some(all) = pod.spec.as_mut().and_then(|spec| spec.tolerations.as_mut()) {
            all[0].toleration_seconds = seconds;
        }
        pod
    }

    #[test]
    fn who_does_not_tolerate_leaves_at_once() {
        let pod = PodBuilder::new("p").build();
        assert_eq!(evict_at(&pod, &[taint()]), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(evict_at(&pod, &[]), None);
    }

    #[test]
    fn who_tolerates_stays_or_leaves_after_the_time() {
        assert_eq!(evict_at(&for_seconds(None), &[taint()]), None);
        let after = Timestamp::UNIX_EPOCH + Duration::from_secs(300);
        assert_eq!(evict_at(&for_seconds(Some(300)), &[taint()]), Some(after));
        assert_eq!(
            evict_at(&for_seconds(Some(-1)), &[taint()]),
            Some(Timestamp::UNIX_EPOCH),
            "zero and below: at once"
        );
    }

    #[test]
    fn an_empty_key_with_exists_tolerates_everything() {
        let pod = PodBuilder::new("p").tolerate("").build();
        assert_eq!(evict_at(&pod, &[taint()]), None);
    }
}
