//! Keeps in each RuntimeClass how many nodes can run it, why the others can't, and how many pods use it.
//!
//! The stock type has no status, so it is an annotation ([`ANNOTATION`]), which nobody else's managed fields contain. Every node
//! watches RuntimeClasses, so writes are few: none without a change, and of each class at most one in [`NODES_APART`], or
//! [`PODS_APART`] when only pods have come and gone. Whoever takes the annotation away again and again makes this controller
//! wait longer each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_core::class_status::{ANNOTATION, ClassStatus};
use berth_core::pod::is_finished;
use berth_placement::{ClassNode, class_status};
use berth_supervise::{Brief, Outage};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Reflected;
use crate::server::is_code;

/// The field manager.
const MANAGER: &str = "runtimeclass-status-controller";
/// How often what is watched is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between two writes of a class when what is said of nodes has changed.
const NODES_APART: Duration = Duration::from_secs(5);
/// And when only the number of pods has.
const PODS_APART: Duration = Duration::from_secs(60);
/// The longest pause after others have undone what was written.
const LONGEST: Duration = Duration::from_secs(600);
/// At most this many classes are written at each look.
const MAX_WRITES: usize = 16;

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    nodes: Reflected<Node>,
    pods: Reflected<Pod>,
    classes: Reflected<RuntimeClass>,
    shutdown: CancellationToken,
) {
    let api: Api<RuntimeClass> = Api::all(client);
    let mut outage = Outage::new("cannot write the status of RuntimeClasses");
    let mut paces: HashMap<String, Pace> = HashMap::new();
    let mut seen = None;
    let mut due = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let is_complete = nodes.is_complete() && pods.is_complete() && classes.is_complete();
        let now = (nodes.revision(), pods.revision(), classes.revision());
        if !is_complete || (seen == Some(now) && !due) {
            continue;
        }
        seen = Some(now);
        let all = classes.all();
        let wanted = statuses(&all, &nodes.all(), &pods.all());
        let uids: Vec<String> = all.iter().filter_map(|class| class.uid()).collect();
        paces.retain(|uid, _| uids.contains(uid));
        due = false;
        let mut writes = 0;
        for (class, status) in all.iter().zip(wanted) {
            let (Some(uid), Ok(text)) = (class.uid(), serde_json::to_string(&status)) else {
                continue;
            };
            let have = class.annotations().get(ANNOTATION).map(String::as_str);
            if have == Some(text.as_str()) {
                continue;
            }
            let pace = paces.entry(uid.clone()).or_default();
            if writes == MAX_WRITES || !pace.is_due(have, &status, Instant::now()) {
                due = true;
                continue;
            }
            writes += 1;
            match write(&api, class, &uid, &text).await {
                Ok(()) => {
                    outage.works();
                    pace.wrote(text, Instant::now());
                }
                Err(error) => {
                    outage.failed(Brief(&error));
                    due = true;
                }
            }
        }
    }
}

/// What each class has as its status.
fn statuses(
    classes: &[Arc<RuntimeClass>],
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
) -> Vec<ClassStatus> {
    let nodes: Vec<ClassNode> = nodes.iter().cloned().map(ClassNode::new).collect();
    let mut used: HashMap<&str, usize> = HashMap::new();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let spec = pod.spec.as_ref();
        if let Some(class) = spec.and_then(|spec| spec.runtime_class_name.as_deref()) {
            *used.entry(class).or_default() += 1;
        }
    }
    let one = |class: &Arc<RuntimeClass>| {
        let mut status = class_status(class, &nodes);
        let name = class.metadata.name.as_deref().unwrap_or_default();
        status.pods = used.get(name).copied().unwrap_or(0);
        status
    };
    classes.iter().map(one).collect()
}

async fn write(
    api: &Api<RuntimeClass>,
    class: &RuntimeClass,
    uid: &str,
    text: &str,
) -> kube::Result<()> {
    let patch = json!({"metadata": {"uid": uid, "annotations": {ANNOTATION: text}}});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = api
        .patch_metadata(&class.name_any(), &params, &Patch::Merge(patch))
        .await;
    match written {
        Ok(_) => Ok(()),
        // It was deleted, or another of this name was made.
        Err(error) if is_code(&error, &[404, 409, 422]) => Ok(()),
        Err(error) => Err(error),
    }
}

/// When a class may be written again.
#[derive(Debug, Default)]
struct Pace {
    /// What was written last, and when.
    last: Option<(String, Instant)>,
    /// The object has shown it.
    shown: bool,
    /// How often somebody else has undone it since it was left alone for once.
    undone: u32,
}

impl Pace {
    /// Whether it is time to write `status` in place of what the object has.
    fn is_due(&mut self, have: Option<&str>, status: &ClassStatus, now: Instant) -> bool {
        let Some((text, at)) = &self.last else {
            return true;
        };
        let is_ours = have == Some(text.as_str());
        if is_ours {
            self.shown = true;
        } else if self.shown {
            self.shown = false;
            self.undone = self.undone.saturating_add(1);
        }
        let before: Option<ClassStatus> = have.and_then(|text| serde_json::from_str(text).ok());
        let only_pods = before.is_some_and(|before| before.is_same_of_nodes(status));
        let apart = if only_pods { PODS_APART } else { NODES_APART };
        let factor = 2_u32.saturating_pow(self.undone.min(16));
        let apart = apart.saturating_mul(factor).min(LONGEST.max(apart));
        now.duration_since(*at) >= apart
    }

    fn wrote(&mut self, text: String, now: Instant) {
        // What stayed for the longest pause was left alone.
        if self.shown
            && self
                .last
                .as_ref()
                .is_some_and(|(_, at)| now.duration_since(*at) >= LONGEST)
        {
            self.undone = 0;
        }
        self.last = Some((text, now));
        self.shown = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(able: usize, pods: usize) -> (ClassStatus, String) {
        let mut status = ClassStatus::default();
        for _ in 0..able {
            status.add_able("vm");
        }
        status.pods = pods;
        let text = serde_json::to_string(&status).unwrap();
        (status, text)
    }

    #[test]
    fn pods_that_come_and_go_are_written_once_a_minute() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let (first, text) = status(1, 0);
        assert!(pace.is_due(None, &first, start));
        pace.wrote(text.clone(), start);
        let mut writes = 0;
        let mut have = text;
        for second in 1..=600_u64 {
            let now = start + Duration::from_secs(second);
            let (status, text) = status(1, usize::try_from(second).unwrap());
            if pace.is_due(Some(&have), &status, now) {
                pace.wrote(text.clone(), now);
                have = text;
                writes += 1;
            }
        }
        assert_eq!(writes, 10);
    }

    #[test]
    fn a_node_that_comes_is_told_of_soon() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let (_, text) = status(1, 0);
        pace.wrote(text.clone(), start);
        let (more, _) = status(2, 0);
        assert!(!pace.is_due(Some(&text), &more, start + Duration::from_secs(4)));
        assert!(pace.is_due(Some(&text), &more, start + NODES_APART));
    }

    #[test]
    fn who_undoes_it_again_and_again_is_waited_for() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let (status, text) = status(1, 0);
        pace.wrote(text.clone(), start);
        let mut writes = 0;
        for second in 1..=3600_u64 {
            let now = start + Duration::from_secs(second);
            // It shows for a moment, and is gone.
            pace.is_due(Some(&text), &status, now);
            if pace.is_due(None, &status, now) {
                pace.wrote(text.clone(), now);
                writes += 1;
            }
        }
        assert!(writes < 15, "{writes}");
    }
}
