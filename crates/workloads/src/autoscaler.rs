//! HorizontalPodAutoscalers: how many replicas a workload is to have, by what its pods use (KEP-117, autoscaling/v2).
//!
//! - [`usage`]: what the measured use asks for.
//! - [`rate`]: how fast it may go there, by `spec.behavior` and by what was asked for before.
//! - `status.rs`: conditions, and what happened in words.
//!
//! Metrics are those of metrics.k8s.io: `Resource` and `ContainerResource`. Others are refused in the conditions.

pub mod rate;
mod status;
pub mod usage;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Event;
pub use rate::History;
use status::{ABLE, ACTIVE, LIMITED, set_condition};
pub use usage::PodUse;
use usage::Proposal;

/// The `scale` subresource of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`.
    pub wanted: i32,
    /// `status.selector`, as text; empty when the target has none.
    pub selector: String,
}

/// What was found out about the target's pods.
pub struct Measured<'a> {
    /// Those that its selector selects.
    pub pods: &'a [Pod],
    /// What they use, by name; or why nobody knows.
    pub uses: Result<BTreeMap<String, PodUse>, String>,
    /// All autoscalers of these pods, as `namespace/name`, when there are several.
    pub rivals: &'a [String],
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The status, as it is without a resize.
    pub status: HorizontalPodAutoscalerStatus,
    /// To be recorded.
    pub events: Vec<Event>,
    /// Another number of replicas; [`resized`] says what comes of it.
    pub resize: Option<Resize>,
}

/// Another number of replicas for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    /// What it has.
    pub from: i32,
    /// What it is to have.
    pub to: i32,
    /// Why, for people.
    pub reason: String,
}

/// What becomes of the replicas before any metric is looked at.
enum Bounds {
    /// The target is switched off: its replicas were set to zero.
    Off,
    /// It has more or fewer than it may have.
    Outside { to: i32, reason: &'static str },
    /// By metrics.
    Inside,
}

fn bounds(scaler: &HorizontalPodAutoscaler, scale: &Scale) -> Bounds {
    let most = scaler.spec.max_replicas;
    let least = least(scaler);
    if scale.wanted == 0 && least != 0 {
        Bounds::Off
    } else if scale.wanted > most {
        Bounds::Outside {
            to: most,
            reason: "Current number of replicas above Spec.MaxReplicas",
        }
    } else if scale.wanted < least {
        Bounds::Outside {
            to: least,
            reason: "Current number of replicas below Spec.MinReplicas",
        }
    } else {
        Bounds::Inside
    }
}

fn least(scaler: &HorizontalPodAutoscaler) -> i32 {
    scaler.spec.min_replicas.unwrap_or(1)
}

/// Whether pods and what they use have to be known.
#[must_use]
pub fn needs_metrics(scaler: &HorizontalPodAutoscaler, scale: &Scale) -> bool {
    matches!(bounds(scaler, scale), Bounds::Inside) && !scale.selector.is_empty()
}

/// The target's scale could not be read.
#[must_use]
pub fn without_scale(scaler: &HorizontalPodAutoscaler, why: &str, now: Timestamp) -> Plan {
    let mut status = scaler.status.clone().unwrap_or_default();
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    set_condition(&mut status, ABLE, false, "FailedGetScale", message, now);
    Plan {
        status,
        events: vec![Event::warning("FailedGetScale", why.to_owned())],
        resize: None,
    }
}

/// What is to be done about a target with this scale. `measured` counts only where [`needs_metrics`].
///
/// `history` is what was decided about this autoscaler before; it is kept by the caller.
#[must_use]
pub fn plan(
    scaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    measured: &Measured<'_>,
    history: &mut History,
    now: Timestamp,
) -> Plan {
    let old = scaler.status.clone().unwrap_or_default();
    let mut status = HorizontalPodAutoscalerStatus {
        current_replicas: Some(scale.wanted),
        current_metrics: None,
        ..old
    };
    let message = "the HPA controller was able to get the target's current scale";
    let able = message.to_owned();
    set_condition(&mut status, ABLE, true, "SucceededGetScale", able, now);
    history.begin(scale.wanted, now);
    let (to, reason) = match bounds(scaler, scale) {
        Bounds::Off => {
            let message = "scaling is disabled since the replica count of the target is zero";
            let message = message.to_owned();
            set_condition(&mut status, ACTIVE, false, "ScalingDisabled", message, now);
            (0, String::new())
        }
        Bounds::Outside { to, reason } => (to, reason.to_owned()),
        Bounds::Inside => {
            let mut events = Vec::new();
            match by_metrics(scaler, scale, measured, &mut status, &mut events, now) {
                Ok(chosen) => {
                    let to = limit(scaler, scale.wanted, chosen.replicas, history, now);
                    set_condition(
                        &mut status,
                        ABLE,
                        true,
                        to.able.0,
                        to.able.1.to_owned(),
                        now,
                    );
                    let (limited, reason, message) = to.limited;
                    set_condition(
                        &mut status,
                        LIMITED,
                        limited,
                        reason,
                        message.to_owned(),
                        now,
                    );
                    let reason = if chosen.replicas > scale.wanted {
                        format!("{} above target", chosen.metric)
                    } else {
                        "All metrics below target".to_owned()
                    };
                    return finish(status, events, scale.wanted, to.replicas, reason);
                }
                Err(why) => {
                    events.push(Event::warning("FailedComputeMetricsReplicas", why));
                    return Plan {
                        status,
                        events,
                        resize: None,
                    };
                }
            }
        }
    };
    finish(status, Vec::new(), scale.wanted, to, reason)
}

fn finish(
    mut status: HorizontalPodAutoscalerStatus,
    events: Vec<Event>,
    from: i32,
    to: i32,
    reason: String,
) -> Plan {
    let resize = (from != to).then_some(Resize { from, to, reason });
    if resize.is_none() {
        status.desired_replicas = to;
    }
    Plan {
        status,
        events,
        resize,
    }
}

/// The most that a metric asks for.
///
/// # Errors
/// Why nothing can be decided: no metric could be read, or one could not and the others ask for fewer replicas.
fn by_metrics(
    scaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    measured: &Measured<'_>,
    status: &mut HorizontalPodAutoscalerStatus,
    events: &mut Vec<Event>,
    now: Timestamp,
) -> Result<Proposal, String> {
    let mut refuse = |reason: &'static str, event: &'static str, shown: String, why: String| {
        events.push(Event::warning(event, why.clone()));
        set_condition(status, ACTIVE, false, reason, shown, now);
        why
    };
    if scale.selector.is_empty() {
        let shown = "the HPA target's scale is missing a selector".to_owned();
        let why = "selector is required".to_owned();
        return Err(refuse("InvalidSelector", "SelectorRequired", shown, why));
    }
    if !measured.rivals.is_empty() {
        let why = format!(
            "pods by selector {} are controlled by multiple HPAs: [{}]",
            scale.selector,
            measured.rivals.join(" ")
        );
        let (shown, reason) = (why.clone(), "AmbiguousSelector");
        return Err(refuse(reason, reason, shown, why));
    }
    let spec = &scaler.spec;
    let metrics: &[MetricSpec] = spec.metrics.as_deref().unwrap_or_default();
    let mut best: Option<Proposal> = None;
    let mut shown: Vec<MetricStatus> = Vec::new();
    let mut failed: Vec<(&'static str, String, String)> = Vec::new();
    let tolerance = usage::Tolerance::of(spec.behavior.as_ref());
    for metric in metrics {
        match usage::propose(metric, scale.wanted, measured, tolerance, now) {
            Ok(proposal) => {
                shown.push(proposal.status.clone());
                if best
                    .as_ref()
                    .is_none_or(|best| proposal.replicas > best.replicas)
                {
                    best = Some(proposal);
                }
            }
            Err(error) => {
                events.push(Event::warning(error.reason, error.why.clone()));
                let message = format!(
                    "the HPA was unable to compute the replica count: {}",
                    error.why
                );
                failed.push((
                    error.reason,
                    message,
                    format!("{}: {}", error.what, error.why),
                ));
            }
        }
    }
    status.current_metrics = (!shown.is_empty()).then_some(shown);
    let first = failed.first().map(|(reason, message, why)| {
        let (invalid, all) = (failed.len(), metrics.len());
        let why =
            format!("invalid metrics ({invalid} invalid out of {all}), first error is: {why}");
        (*reason, message.clone(), why)
    });
    match (best, first) {
        (Some(best), first) if first.is_none() || best.replicas >= scale.wanted => {
            let message = format!(
                "the HPA was able to successfully calculate a replica count from {}",
                best.metric
            );
            set_condition(status, ACTIVE, true, "ValidMetricFound", message, now);
            Ok(best)
        }
        (_, Some((reason, message, why))) => {
            set_condition(status, ACTIVE, false, reason, message, now);
            Err(why)
        }
        (_, None) => Err("the autoscaler has no metrics".to_owned()),
    }
}

/// Where the replicas may go by now, and what is said about it.
struct Limited {
    replicas: i32,
    able: (&'static str, &'static str),
    limited: (bool, &'static str, &'static str),
}

fn limit(
    scaler: &HorizontalPodAutoscaler,
    from: i32,
    asked: i32,
    history: &mut History,
    now: Timestamp,
) -> Limited {
    let spec = &scaler.spec;
    let pace = rate::Pace::new(spec.behavior.as_ref());
    let steady = pace.steady(history, from, asked, now);
    let able = if steady == asked {
        ("ReadyForNewScale", "recommended size matches current size")
    } else if asked >= from {
        (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    } else {
        (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    };
    let bounds = (least(scaler), spec.max_replicas);
    let (replicas, reason, message) = pace.limit(history, from, steady, bounds, now);
    Limited {
        replicas,
        able,
        limited: (replicas != steady, reason, message),
    }
}

/// The status after an attempt to resize the target, and the event; `done` is why it failed.
#[must_use]
pub fn resized(
    scaler: &HorizontalPodAutoscaler,
    plan: &Plan,
    resize: &Resize,
    done: Result<(), &str>,
    history: &mut History,
    now: Timestamp,
) -> (HorizontalPodAutoscalerStatus, Event) {
    let mut status = plan.status.clone();
    let Resize { from, to, reason } = resize;
    if let Err(error) = done {
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        set_condition(&mut status, ABLE, false, "FailedUpdateScale", message, now);
        let message = format!("New size: {to}; reason: {reason}; error: {error}");
        return (status, Event::warning("FailedRescale", message));
    }
    let message = format!("the HPA controller was able to update the target scale to {to}");
    set_condition(&mut status, ABLE, true, "SucceededRescale", message, now);
    status.desired_replicas = *to;
    status.last_scale_time = Some(Time(now));
    let behavior = scaler.spec.behavior.as_ref();
    history.note(behavior, *from, *to, now);
    let message = format!("New size: {to}; reason: {reason}");
    (status, Event::normal("SuccessfulRescale", message))
}
