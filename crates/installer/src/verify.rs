//! The pod that proves a handler, and what its end says.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

use crate::classes::{OWNER, verifying_name};
use crate::wanted::Handler;

/// The label that says of which node's handlers a pod is the proof.
pub const NODE_LABEL: &str = "installer.berth.dev/node";
/// A proof ends by itself after so many seconds.
const LIFETIME: u32 = 180;

/// What the pod is made of.
#[derive(Clone, Debug)]
pub struct Proof<'a> {
    /// The node.
    pub node: &'a str,
    /// The namespace of the installer.
    pub namespace: &'a str,
    /// Name and uid of the installer's own pod, which owns it.
    pub owner: Option<(&'a str, &'a str)>,
    /// The image.
    pub image: &'a str,
    /// The command, which writes what it sees to `/dev/termination-log`.
    pub command: &'a [String],
    /// Names of the Secrets with credentials for the image's registry: those of the chart.
    pub pull_secrets: &'a [String],
    /// The PriorityClass, if not the cluster's default.
    pub priority_class: Option<&'a str>,
}

/// The pod. It has no account's token, no rights on the node, and no choice of a node.
#[must_use]
pub fn pod(handler: &Handler, proof: &Proof<'_>) -> serde_json::Value {
    let owners: Vec<_> = proof
        .owner
        .iter()
        .map(|(name, uid)| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}))
        .collect();
    let secrets: Vec<_> = proof
        .pull_secrets
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", verifying_name(&handler.name)),
            "namespace": proof.namespace,
            "labels": {OWNER.0: OWNER.1, NODE_LABEL: label_value(proof.node)},
            "ownerReferences": owners,
        },
        "spec": {
            "nodeName": proof.node,
            "runtimeClassName": verifying_name(&handler.name),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFETIME,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "dnsPolicy": "Default",
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": secrets,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "proof",
                "image": proof.image,
                "imagePullPolicy": "IfNotPresent",
                "command": proof.command,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    if let Some(class) = proof.priority_class {
        pod["spec"]["priorityClassName"] = class.into();
    }
    pod
}

/// A node's name as the value of a label: names of nodes may be longer.
#[must_use]
pub fn label_value(node: &str) -> String {
    let end = (0..=node.len().min(63))
        .rev()
        .find(|at| node.is_char_boundary(*at));
    let cut = node.get(..end.unwrap_or_default()).unwrap_or_default();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// How a proof stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not ended. What it waits for, if that is known.
    Open(String),
    /// The handler works. What the pod saw.
    Works(String),
    /// It does not.
    Fails(String),
    /// The pod says nothing of the handler: the node had no room, or the image could not be had.
    Unknown(String),
}

/// Why a kubelet ends a pod for reasons of its own; `OutOf...` is another.
const KUBELETS: [&str; 9] = [
    "Evicted",
    "Preempting",
    "Preempted",
    "NodeAffinity",
    "NodeShutdown",
    "NodeLost",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
];

fn is_kubelets(reason: &str) -> bool {
    reason.starts_with("OutOf") || KUBELETS.contains(&reason)
}

/// Judges. `events` are what is told of the pod, oldest first; `kernel` is the node's.
#[must_use]
pub fn judge(handler: &Handler, pod: &Pod, events: &[String], kernel: &str) -> Verdict {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|container| container.state.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let seen = terminated
        .and_then(|end| end.message.as_deref())
        .unwrap_or_default()
        .trim();
    match status.phase.as_deref() {
        Some("Succeeded") if handler.has_own_kernel() && kernel.is_empty() => {
            Verdict::Unknown("it is not known which kernel the node has".to_owned())
        }
        Some("Succeeded") if handler.has_own_kernel() && seen.is_empty() => {
            Verdict::Fails("the pod did not say which kernel it sees".to_owned())
        }
        Some("Succeeded") if handler.has_own_kernel() && has_word(seen, kernel) => Verdict::Fails(
            format!("pods run on the node's own kernel ({kernel}): the handler does not isolate"),
        ),
        Some("Succeeded") => Verdict::Works(seen.to_owned()),
        Some("Failed")
            if status.reason.as_deref().is_some_and(|reason| {
                is_kubelets(reason) || (terminated.is_none() && reason != "DeadlineExceeded")
            }) =>
        {
            let told = [status.reason.clone(), status.message.clone()];
            let told: Vec<String> = told.into_iter().flatten().collect();
            Verdict::Unknown(format!(
                "the kubelet did not let the pod that tries it run: {}",
                told.join(": ")
            ))
        }
        Some("Failed") => {
            let end = terminated.map(|end| format!("exit code {}", end.exit_code));
            let reason = terminated.and_then(|end| end.reason.clone());
            let told = [
                status.reason.clone(),
                status.message.clone(),
                end,
                reason,
                Some(seen.to_owned()),
            ];
            let mut words: Vec<String> = told
                .into_iter()
                .flatten()
                .filter(|word| !word.is_empty())
                .collect();
            words.extend(events.last().cloned());
            Verdict::Fails(format!(
                "the pod that tries it failed: {}",
                words.join(": ")
            ))
        }
        _ => {
            let waiting = state.and_then(|state| state.waiting.as_ref());
            let message = waiting.and_then(|waiting| waiting.message.clone());
            // That an image can't be had says nothing of the handler, and may pass.
            let told = message.or_else(|| events.last().cloned());
            Verdict::Open(told.unwrap_or_default())
        }
    }
}

/// Why a pod that has not ended in time says nothing of the handler, if that is so: it waits for its image, or no kubelet has
/// taken it up. `is_pulling` says that a pull has begun and not ended.
#[must_use]
pub fn is_hindered(pod: &Pod, is_pulling: bool) -> Option<String> {
    let status = pod.status.as_ref()?;
    if status.start_time.is_none() {
        return Some("the kubelet has not taken up the pod that tries it".to_owned());
    }
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let is_image =
        reason.is_some_and(|reason| reason.contains("Image") || reason == "RegistryUnavailable");
    if is_image || is_pulling {
        let told = waiting.and_then(|waiting| waiting.message.clone());
        let told = told.unwrap_or_else(|| "it is being pulled".to_owned());
        return Some(format!(
            "the image of the pod that tries it can't be had: {told}"
        ));
    }
    None
}

/// The judgement over a proof that has not ended in time.
#[must_use]
pub fn overdue(open: &str, seconds: u64) -> String {
    let told = if open.is_empty() {
        "nothing is told of why"
    } else {
        open
    };
    format!("the pod that tries it did not end within {seconds} s: {told}")
}

fn has_word(text: &str, word: &str) -> bool {
    !word.is_empty() && text.split_whitespace().any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(kind: &str) -> Handler {
        crate::wanted::parse(&format!("- {{name: h, kind: {kind}, binary: /b}}"))
            .unwrap()
            .remove(0)
    }

    fn ended(phase: &str, code: i32, message: &str) -> Pod {
        serde_json::from_value(json!({"status": {"phase": phase, "containerStatuses": [{"name": "proof", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "message": message}}}]}}))
        .unwrap()
    }

    const KERNEL: &str = "6.18.4-amd64";

    #[test]
    fn the_pod_has_no_rights() {
        let command = ["berth".to_owned()];
        let proof = Proof {
            node: "n1",
            namespace: "berth",
            owner: Some(("p", "u")),
            image: "i",
            command: &command,
            pull_secrets: &["registry".to_owned()],
            priority_class: Some("low"),
        };
        let pod = pod(&handler("oci"), &proof);
        let typed: Pod = serde_json::from_value(pod).unwrap();
        let spec = typed.spec.unwrap();
        assert_eq!(
            (
                spec.node_name.as_deref(),
                spec.automount_service_account_token
            ),
            (Some("n1"), Some(false))
        );
        assert_eq!(spec.runtime_class_name.as_deref(), Some("berth-verify-h"));
        assert_eq!(typed.metadata.owner_references.unwrap()[0].uid, "u");
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
        assert_eq!(spec.priority_class_name.as_deref(), Some("low"));
        assert_eq!(label_value(&"n".repeat(100)).len(), 63);
        assert_eq!(
            label_value(&format!("{}.x", "n".repeat(62))),
            "n".repeat(62)
        );
    }

    #[test]
    fn a_sandbox_shows_another_kernel() {
        let gvisor = handler("gvisor");
        let seen = |text: &str| judge(&gvisor, &ended("Succeeded", 0, text), &[], KERNEL);
        assert_eq!(
            seen("Linux version 4.4.0 #1\n"),
            Verdict::Works("Linux version 4.4.0 #1".to_owned())
        );
        let Verdict::Fails(reason) = seen(&format!("Linux version {KERNEL} (gcc)")) else {
            panic!()
        };
        assert!(reason.contains("does not isolate"), "{reason}");
        assert!(matches!(seen(""), Verdict::Fails(_)));
        assert!(matches!(
            judge(&handler("oci"), &ended("Succeeded", 0, ""), &[], KERNEL),
            Verdict::Works(_)
        ));
    }

    #[test]
    fn a_full_node_is_no_broken_handler() {
        let judged = |status: serde_json::Value| {
            let pod: Pod = serde_json::from_value(json!({ "status": status })).unwrap();
            judge(&handler("oci"), &pod, &[], KERNEL)
        };
        for reason in ["OutOfcpu", "OutOfpods", "Evicted", "SomethingNew"] {
            let found = judged(json!({"phase": "Failed", "reason": reason}));
            assert!(matches!(found, Verdict::Unknown(_)), "{reason}: {found:?}");
        }
        let late = judged(json!({"phase": "Failed", "reason": "DeadlineExceeded"}));
        assert!(matches!(late, Verdict::Fails(_)), "{late:?}");
        // Without the node's kernel nothing is known of a sandbox's.
        let seen = judge(&handler("gvisor"), &ended("Succeeded", 0, "4.4.0"), &[], "");
        assert!(matches!(seen, Verdict::Unknown(_)), "{seen:?}");
    }

    #[test]
    fn an_image_that_does_not_come_is_no_broken_handler() {
        let hindered = |status: serde_json::Value, is_pulling| {
            let pod: Pod = serde_json::from_value(json!({ "status": status })).unwrap();
            is_hindered(&pod, is_pulling).is_some()
        };
        let waiting = |reason: &str| {
            json!({"startTime": "2026-01-01T00:00:00Z", "containerStatuses": [{"name": "proof", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]})
        };
        assert!(hindered(waiting("ImagePullBackOff"), false));
        assert!(hindered(waiting("ContainerCreating"), true));
        assert!(!hindered(waiting("ContainerCreating"), false));
        assert!(hindered(json!({"phase": "Pending"}), false));
    }

    #[test]
    fn failures_say_why() {
        let failed = judge(
            &handler("oci"),
            &ended("Failed", 3, "oops"),
            &["FailedCreatePodSandBox: no crun".to_owned()],
            KERNEL,
        );
        assert_eq!(
            failed,
            Verdict::Fails(
                "the pod that tries it failed: exit code 3: oops: FailedCreatePodSandBox: no crun"
                    .to_owned()
            )
        );
        let waiting: Pod = serde_json::from_value(json!({"status": {"phase": "Pending"}})).unwrap();
        assert_eq!(
            judge(
                &handler("oci"),
                &waiting,
                &["a".to_owned(), "b".to_owned()],
                KERNEL
            ),
            Verdict::Open("b".to_owned())
        );
        assert_eq!(
            overdue("b", 60),
            "the pod that tries it did not end within 60 s: b"
        );
    }
}
