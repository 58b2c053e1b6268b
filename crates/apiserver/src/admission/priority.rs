//! Priority: the class's value, or the default's, on every pod.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{forbidden, pod::name};
use crate::rest::Call;

const STORAGE: &str = "scheduling.k8s.io/priorityclasses";

/// Classes that exist without an object.
const SYSTEM: [(&str, i32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// Fills in priority and preemption policy.
pub(super) fn admit(call: &Call, pod: &mut Pod) -> Result<(), ApiError> {
    let pod_name = name(pod).to_owned();
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    let storage = &call.api.storage;
    let class_name = spec.priority_class_name.clone().unwrap_or_default();
    let (value, policy) = if class_name.is_empty() {
        let default = storage
            .read_all::<PriorityClass>(STORAGE, None)
            .into_iter()
            .filter(|c| c.global_default == Some(true))
            .min_by_key(|c| c.value);
        match default {
            Some(class) => {
                spec.priority_class_name = class.metadata.name;
                (class.value, class.preemption_policy)
            }
            None => (None, None),
        }
    } else if let Some((_, value)) = SYSTEM.iter().find(|(n, _)| *n == class_name) {
        (Some(*value), None)
    } else {
        let class: PriorityClass = storage.read(STORAGE, "", &class_name).ok_or_else(|| {
            forbidden(
                call,
                &pod_name,
                format!("no PriorityClass with name {class_name} was found"),
            )
        })?;
        (class.value, class.preemption_policy)
    };
    let value = value.unwrap_or(0);
    if let Some(given) = spec.priority.filter(|given| *given != value) {
        return Err(forbidden(
            call,
            &pod_name,
            format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ),
        ));
    }
    spec.priority = Some(value);
    let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    if let Some(given) = spec
        .preemption_policy
        .as_deref()
        .filter(|given| *given != policy)
    {
        return Err(forbidden(
            call,
            &pod_name,
            format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    spec.preemption_policy = Some(policy);
    Ok(())
}
