//! How far a pod has got, by its status.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// How far the program is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not started; why, where somebody says so.
    Waiting(Option<String>),
    /// It runs.
    Running,
    /// It has ended.
    Ended {
        /// Its exit code.
        code: u8,
    },
    /// The pod has ended without it.
    Failed(String),
}

/// What a pod's status says of its container.
#[must_use]
pub(super) fn stage(pod: &Pod, container: &str) -> Stage {
    let Some(status) = &pod.status else {
        return Stage::Waiting(None);
    };
    let mut containers = status.container_statuses.iter().flatten();
    let state = containers
        .find(|status| status.name == container)
        .and_then(|status: &ContainerStatus| status.state.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref());
    if let Some(ended) = ended
        && ended.started_at.is_some()
    {
        // Codes are 0 to 255 of a program that ran; another can't be handed on.
        let code = u8::try_from(ended.exit_code).unwrap_or(1);
        return Stage::Ended { code };
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let of_container = ended.map(|ended| (ended.reason.as_deref(), ended.message.as_deref()));
        let (reason, message) =
            of_container.unwrap_or((status.reason.as_deref(), status.message.as_deref()));
        return Stage::Failed(said("the pod did not run", reason, message));
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Stage::Running;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting
        && waiting.message.is_some()
    {
        let (reason, message) = (waiting.reason.as_deref(), waiting.message.as_deref());
        return Stage::Waiting(Some(said("the container waits", reason, message)));
    }
    let mut conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False");
    Stage::Waiting(unscheduled.map(|condition| {
        let (reason, message) = (condition.reason.as_deref(), condition.message.as_deref());
        said("the pod has no node", reason, message)
    }))
}

fn said(what: &str, reason: Option<&str>, message: Option<&str>) -> String {
    match (reason, message) {
        (Some(reason), Some(message)) => format!("{what} ({reason}): {message}"),
        (None, Some(why)) | (Some(why), None) => format!("{what}: {why}"),
        (None, None) => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value) -> Stage {
        let pod = serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap();
        stage(&pod, "main")
    }

    fn state(state: serde_json::Value) -> serde_json::Value {
        json!({"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    #[test]
    fn a_program_that_ran_gives_its_code() {
        let time = "2026-01-01T00:00:00Z";
        let ended = |code: i32| json!({"terminated": {"exitCode": code, "startedAt": time, "finishedAt": time}});
        assert_eq!(of(state(ended(0))), Stage::Ended { code: 0 });
        assert_eq!(of(state(ended(137))), Stage::Ended { code: 137 });
        assert_eq!(of(state(ended(-1))), Stage::Ended { code: 1 });
        assert_eq!(
            of(state(json!({"running": {"startedAt": time}}))),
            Stage::Running
        );
    }

    #[test]
    fn what_keeps_it_is_said() {
        assert_eq!(of(json!({"phase": "Pending"})), Stage::Waiting(None));
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        assert_eq!(
            of(state(waiting)),
            Stage::Waiting(Some(
                "the container waits (ImagePullBackOff): no such image".into()
            ))
        );
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
        assert_eq!(
            of(json!({"phase": "Pending", "conditions": [condition]})),
            Stage::Waiting(Some(
                "the pod has no node (Unschedulable): 0/1 nodes".into()
            ))
        );
    }

    #[test]
    fn a_pod_that_never_ran_says_why() {
        assert_eq!(
            of(
                json!({"phase": "Failed", "reason": "RuntimeClassNotFound", "message": "there is none"})
            ),
            Stage::Failed("the pod did not run (RuntimeClassNotFound): there is none".into())
        );
        // The container's own reason is nearer than the pod's.
        let refused = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such file"}});
        let mut status = state(refused);
        status["phase"] = "Failed".into();
        assert_eq!(
            of(status),
            Stage::Failed("the pod did not run (StartError): no such file".into())
        );
    }
}
