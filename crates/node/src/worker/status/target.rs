//! The object that a pod's status is written to, and what it has.

use std::sync::Arc;
use std::time::Duration;

use berth_lifecycle::is_ours;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::annotate::RUNTIME;

/// Between two times that a condition which somebody else has changed is set right: whoever may write a pod's status could
/// keep this node writing otherwise. The kubelet looks as often.
const CORRECTION_INTERVAL: Duration = Duration::from_secs(10);

/// What the object has.
pub(super) struct Written {
    pub(super) status: PodStatus,
    pub(super) runtime: Option<String>,
}

impl Written {
    pub(super) fn of(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        Self {
            status: pod.status.clone().unwrap_or_default(),
            runtime: annotations.and_then(|a| a.get(RUNTIME).cloned()),
        }
    }
}

/// The object that gets the status.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) uid: String,
    /// Of a static pod: the pod that stands for it, which comes late and may be replaced.
    mirror: Option<watch::Receiver<Option<Arc<Pod>>>>,
    /// The pod as the watch tells of it.
    pod: watch::Receiver<Arc<Pod>>,
    /// The resourceVersion of what was written last: what the watch tells of before that is known.
    version: u64,
    /// When a condition was last set right that somebody else had changed.
    corrected: Option<Instant>,
}

impl Target {
    pub(super) fn new(
        name: String,
        uid: String,
        pod: watch::Receiver<Arc<Pod>>,
        mirror: Option<watch::Receiver<Option<Arc<Pod>>>>,
    ) -> Self {
        Self {
            name,
            uid,
            mirror,
            pod,
            version: 0,
            corrected: None,
        }
    }

    /// Notes what the API server answered to a write.
    pub(super) fn wrote(&mut self, pod: &Pod) {
        self.version = version(pod);
    }

    /// Waits for another status, another pod to write it to, or a change by somebody else that has to be set right: while a
    /// node is not heard from, its pods are marked as not ready, and only the node knows better. None when there will be
    /// none any more. `last` is what the object has.
    pub(super) async fn changed<T>(
        &mut self,
        wanted: &mut watch::Receiver<T>,
        last: &mut Written,
    ) -> Option<()> {
        loop {
            let due = self.correction_due(last);
            let correction = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let mirror = async {
                match &mut self.mirror {
                    Some(mirror) => mirror.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = wanted.changed() => return changed.ok(),
                changed = mirror => return changed.ok(),
                changed = self.pod.changed() => changed.ok()?,
                () = correction => {
                    if let Some(status) = self.changed_by_others(last) {
                        self.corrected = Some(Instant::now());
                        last.status = status;
                        return Some(());
                    }
                }
            }
        }
    }

    /// When a change by somebody else may be set right; none when there is no such change.
    fn correction_due(&self, last: &Written) -> Option<Instant> {
        self.changed_by_others(last)?;
        let now = Instant::now();
        Some(self.corrected.map_or(now, |at| at + CORRECTION_INTERVAL))
    }

    /// The status that the object has, when a condition of this node is not there as it was written.
    fn changed_by_others(&self, last: &Written) -> Option<PodStatus> {
        let pod = match &self.mirror {
            None => self.pod.borrow().clone(),
            Some(mirror) => mirror.borrow().clone()?,
        };
        if pod.metadata.uid.as_deref() != Some(&self.uid) || version(&pod) < self.version {
            return None;
        }
        let seen = pod.status.clone().unwrap_or_default();
        conditions_differ(&last.status, &seen).then_some(seen)
    }

    /// There is an object to write to. `last` is what it has, when it is another one than before.
    pub(super) fn is_there(&mut self, last: &mut Written) -> bool {
        let Some(mirror) = &mut self.mirror else {
            return true;
        };
        let Some(pod) = mirror.borrow_and_update().clone() else {
            return false;
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if uid != self.uid {
            self.uid = uid;
            self.version = 0;
            *last = Written::of(&pod);
        }
        true
    }
}

/// The resourceVersion as a number; the greatest where it is none, so that nothing passes for old.
fn version(pod: &Pod) -> u64 {
    let version = pod.metadata.resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// A condition that this node has written has another status, or is gone.
fn conditions_differ(written: &PodStatus, seen: &PodStatus) -> bool {
    let find = |type_: &str| {
        let mut conditions = seen.conditions.iter().flatten();
        conditions.find(|c| c.type_ == type_)
    };
    let mut ours = written.conditions.iter().flatten();
    ours.any(|c| is_ours(&c.type_) && find(&c.type_).is_none_or(|other| other.status != c.status))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;

    #[test]
    fn conditions_of_this_node_are_compared() {
        let status = |conditions: &[(&str, &str)]| {
            let conditions = conditions.iter().map(|(type_, status)| PodCondition {
                type_: (*type_).into(),
                status: (*status).into(),
                ..PodCondition::default()
            });
            PodStatus {
                conditions: Some(conditions.collect()),
                ..PodStatus::default()
            }
        };
        let written = status(&[("Ready", "True"), ("PodScheduled", "True")]);
        for (seen, differs) in [
            (vec![("PodScheduled", "True"), ("Ready", "True")], false),
            (vec![("Ready", "False"), ("PodScheduled", "True")], true),
            (vec![("PodScheduled", "True")], true),
            (
                vec![
                    ("Ready", "True"),
                    ("PodScheduled", "True"),
                    ("DisruptionTarget", "True"),
                ],
                false,
            ),
        ] {
            assert_eq!(
                conditions_differ(&written, &status(&seen)),
                differs,
                "{seen:?}"
            );
        }
        assert!(!conditions_differ(&PodStatus::default(), &written));
        let foreign = status(&[("example.com/gate", "True")]);
        assert!(!conditions_differ(&foreign, &status(&[])));
    }
}
