//! Conditions of an autoscaler.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The target's scale can be read and written.
pub(super) const ABLE: &str = "AbleToScale";
/// The metrics can be read.
pub(super) const ACTIVE: &str = "ScalingActive";
/// The metrics ask for more or less than is allowed, or allowed by now.
pub(super) const LIMITED: &str = "ScalingLimited";

/// Sets one; the time of its last transition is kept while its status is.
pub(super) fn set_condition(
    status: &mut HorizontalPodAutoscalerStatus,
    type_: &str,
    holds: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let holds = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let place = conditions.iter().position(|one| one.type_ == type_);
    let since = place
        .and_then(|place| conditions.get(place))
        .filter(|one| one.status == holds)
        .and_then(|one| one.last_transition_time.clone());
    let condition = HorizontalPodAutoscalerCondition {
        type_: type_.to_owned(),
        status: holds.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(now))),
    };
    match place.and_then(|place| conditions.get_mut(place)) {
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}
