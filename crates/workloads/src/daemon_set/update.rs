//! The rolling update of a DaemonSet: so many nodes at a time without a pod, or with two.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::nodes::Placement;
use super::{Place, Work, pod};
use crate::intstr::scaled;
use crate::pod::is_active;

/// How far a rolling update may go.
pub(super) struct Limits {
    /// Nodes with a pod of each template.
    pub(super) surge: i32,
    /// Nodes without an available pod.
    unavailable: i32,
    is_rolling: bool,
}

impl Work<'_> {
    pub(super) fn limits(&self) -> Limits {
        let strategy = self.spec.update_strategy.as_ref();
        let is_rolling = strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete");
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let desired = self.desired();
        let surge = rolling.and_then(|r| r.max_surge.as_ref());
        let surge = scaled(surge, desired, true).unwrap_or(0);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        let unavailable = scaled(unavailable, desired, true).unwrap_or(1);
        Limits {
            surge: if is_rolling { surge } else { 0 },
            unavailable: if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            },
            is_rolling,
        }
    }

    /// Replaces pods of older templates.
    pub(super) fn update(&mut self) {
        let limits = self.limits();
        if !limits.is_rolling {
            return;
        }
        if limits.surge > 0 {
            self.update_by_surge(limits.surge);
        } else {
            self.update_by_replacing(limits.unavailable);
        }
    }

    fn update_by_replacing(&mut self, most: i32) {
        let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for place in self.nodes.iter().filter(|p| p.placement == Placement::Runs) {
            match self.on(place) {
                Found::Nothing => unavailable += 1,
                Found::Several => {}
                Found::One { old, new } => match (old, new) {
                    (_, Some(new)) => unavailable += i32::from(!self.is_available(&new)),
                    // It isn't available, so that nothing is lost by replacing it.
                    (Some(old), None) if !self.is_available(&old) => {
                        unavailable += 1;
                        broken.push(old);
                    }
                    (Some(old), None) => candidates.push(old),
                    (None, None) => unavailable += 1,
                },
            }
        }
        let room = crate::pod::length(most - unavailable);
        candidates.truncate(room);
        self.plan.delete.extend(broken);
        self.plan.delete.extend(candidates);
    }

    fn update_by_surge(&mut self, most: i32) {
        let (mut surging, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for place in self.nodes.iter().filter(|p| p.placement == Placement::Runs) {
            let Found::One {
                old: Some(old),
                new,
            } = self.on(place)
            else {
                continue;
            };
            match new {
                // Which of the two goes when is decided where pods are counted.
                Some(new) => surging += i32::from(!self.is_available(&new)),
                None if !self.is_available(&old) => broken.push(place.name.clone()),
                None => candidates.push(place.name.clone()),
            }
        }
        let room = crate::pod::length(most - surging);
        candidates.truncate(room);
        for node in broken.iter().chain(&candidates) {
            let pod = pod::new(self.set, self.spec, self.hash, node);
            self.plan.create.push(pod);
        }
    }

    fn on(&self, place: &Place) -> Found {
        let (mut old, mut new) = (None, None);
        for pod in place.pods.iter().filter(|pod| is_active(pod)) {
            let slot = if self.is_current(pod) {
                &mut new
            } else {
                &mut old
            };
            if slot.replace(Arc::clone(pod)).is_some() {
                return Found::Several;
            }
        }
        match (&old, &new) {
            (None, None) => Found::Nothing,
            _ => Found::One { old, new },
        }
    }
}

/// The pods on a node.
enum Found {
    Nothing,
    /// At most one of each template.
    One {
        old: Option<Arc<Pod>>,
        new: Option<Arc<Pod>>,
    },
    /// More: they are being reduced first.
    Several,
}
