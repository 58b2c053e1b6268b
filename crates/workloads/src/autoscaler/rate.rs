//! How fast an autoscaler may change the number of replicas.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// For how long the highest recommendation counts before fewer replicas are made (stock:
/// `--horizontal-pod-autoscaler-downscale-stabilization`).
const DOWN_WINDOW: i32 = 300;
/// Without a behavior, the replicas are at most doubled at once, or raised to this number.
const UP_AT_ONCE: i32 = 4;
/// How many recommendations are kept: with one each second, those of the longest window that is allowed.
const KEPT: usize = 3600;

/// What was decided about an autoscaler before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What was asked for, oldest first.
    recommendations: Vec<(Timestamp, i32)>,
    /// By how many the replicas grew, and shrank.
    up: Vec<(Timestamp, i32)>,
    down: Vec<(Timestamp, i32)>,
}

impl History {
    /// What the target has when it is first seen counts as asked for: a restart removes no replicas at once.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Takes note of a resize.
    pub(super) fn note(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        from: i32,
        to: i32,
        now: Timestamp,
    ) {
        let Some(behavior) = behavior else {
            return;
        };
        let (events, rules) = if to > from {
            (&mut self.up, &behavior.scale_up)
        } else {
            (&mut self.down, &behavior.scale_down)
        };
        let policies = rules
            .iter()
            .flat_map(|rules| rules.policies.iter().flatten());
        let longest = policies.map(|policy| policy.period_seconds).max();
        let longest = longest.unwrap_or_default();
        events.retain(|(at, _)| is_within(*at, longest, now));
        events.push((now, from.abs_diff(to).try_into().unwrap_or(i32::MAX)));
    }
}

fn is_within(at: Timestamp, seconds: i32, now: Timestamp) -> bool {
    now.duration_since(at) < SignedDuration::from_secs(seconds.into())
}

fn sum(events: &[(Timestamp, i32)], seconds: i32, now: Timestamp) -> i32 {
    let recent = events.iter().filter(|(at, _)| is_within(*at, seconds, now));
    recent.fold(0, |sum, (_, change)| sum.saturating_add(*change))
}

/// The rules of `spec.behavior`.
pub(super) struct Pace<'a> {
    behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
}

/// One direction of it.
struct Way<'a> {
    rules: Option<&'a HPAScalingRules>,
    up: bool,
}

impl<'a> Pace<'a> {
    pub(super) fn new(behavior: Option<&'a HorizontalPodAutoscalerBehavior>) -> Self {
        Self { behavior }
    }

    fn windows(&self) -> (i32, i32) {
        let window = |rules: Option<&HPAScalingRules>| rules?.stabilization_window_seconds;
        let up = self.behavior.and_then(|b| window(b.scale_up.as_ref()));
        let down = self.behavior.and_then(|b| window(b.scale_down.as_ref()));
        (up.unwrap_or(0), down.unwrap_or(DOWN_WINDOW))
    }

    /// What is asked for, kept from going up and down: not above the least of what was asked for in the window of scaling up, not
    /// below the most of that in the window of scaling down.
    pub(super) fn steady(
        &self,
        history: &mut History,
        from: i32,
        asked: i32,
        now: Timestamp,
    ) -> i32 {
        let (up, down) = self.windows();
        let all = &mut history.recommendations;
        all.retain(|(at, _)| is_within(*at, up.max(down), now));
        let within = |seconds: i32| {
            let recent = all
                .iter()
                .filter(move |(at, _)| is_within(*at, seconds, now));
            recent.map(|(_, replicas)| *replicas)
        };
        let least = within(up).fold(asked, i32::min);
        let most = within(down).fold(asked, i32::max);
        let steady = match self.behavior {
            Some(_) => from.max(least).min(most),
            None => most,
        };
        all.push((now, asked));
        if all.len() > KEPT {
            all.remove(0);
        }
        steady
    }

    /// As far as the rules let it go now, within the least and the most that are allowed; and what holds it.
    pub(super) fn limit(
        &self,
        history: &History,
        from: i32,
        to: i32,
        (least, most): (i32, i32),
        now: Timestamp,
    ) -> (i32, &'static str, &'static str) {
        let fine = (
            to,
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        );
        let highest = match self.behavior {
            // Not below what it has: events may say that it grew too fast already.
            Some(behavior) => Way::up(behavior).limit(history, from, now).max(from),
            None => from.saturating_mul(2).max(UP_AT_ONCE),
        };
        let lowest = match self.behavior {
            Some(behavior) => Way::down(behavior).limit(history, from, now).min(from),
            None => i32::MIN,
        };
        let rises = to > from || self.behavior.is_none();
        let falls = to < from || self.behavior.is_none();
        if falls && to < least.max(lowest) {
            return if least < lowest {
                let why =
                    "the desired replica count is decreasing faster than the maximum scale rate";
                (lowest, "ScaleDownLimit", why)
            } else {
                let why = "the desired replica count is less than the minimum replica count";
                (least, "TooFewReplicas", why)
            };
        }
        if rises && to > most.min(highest) {
            return if most > highest {
                let why =
                    "the desired replica count is increasing faster than the maximum scale rate";
                (highest, "ScaleUpLimit", why)
            } else {
                let why = "the desired replica count is more than the maximum replica count";
                (most, "TooManyReplicas", why)
            };
        }
        fine
    }
}

impl<'a> Way<'a> {
    fn up(behavior: &'a HorizontalPodAutoscalerBehavior) -> Self {
        let rules = behavior.scale_up.as_ref();
        Self { rules, up: true }
    }

    fn down(behavior: &'a HorizontalPodAutoscalerBehavior) -> Self {
        let rules = behavior.scale_down.as_ref();
        Self { rules, up: false }
    }

    /// How far the policies let the replicas go from what they were at the start of each policy's period. A policy that can't be
    /// read lets nothing change.
    fn limit(&self, history: &History, from: i32, now: Timestamp) -> i32 {
        let select = self.rules.and_then(|rules| rules.select_policy.as_deref());
        let policies = self.rules.and_then(|rules| rules.policies.as_deref());
        let places: BTreeSet<i32> = policies
            .unwrap_or_default()
            .iter()
            .map(|policy| {
                let added = sum(&history.up, policy.period_seconds, now);
                let removed = sum(&history.down, policy.period_seconds, now);
                let start = i64::from(from) - i64::from(added) + i64::from(removed);
                let value = i64::from(policy.value);
                let place = match (policy.type_.as_str(), self.up) {
                    ("Pods", true) => start + value,
                    ("Pods", false) => start - value,
                    // Rounded up, since a small number would never grow.
                    ("Percent", true) => (start * (100 + value) + 99).div_euclid(100),
                    ("Percent", false) => start * (100 - value) / 100,
                    _ => from.into(),
                };
                i32::try_from(place).unwrap_or(if place > 0 { i32::MAX } else { i32::MIN })
            })
            .collect();
        // The policy that lets most change, or with `Min` the one that lets least.
        let furthest = match select {
            Some("Disabled") => None,
            _ if (select != Some("Min")) == self.up => places.last(),
            _ => places.first(),
        };
        furthest.copied().unwrap_or(from)
    }
}
