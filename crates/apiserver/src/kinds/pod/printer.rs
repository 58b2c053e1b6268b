//! Pods: NAME READY STATUS RESTARTS AGE, wide also IP NODE NOMINATED NODE READINESS GATES RUNTIME.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::printer::{NONE, Printer, age, created_ago, items, name, or_none, text};

/// The node writes here which runtime really ran the pod.
const RUNTIME: &str = "berth.dev/runtime";

/// Columns of pods.
#[must_use]
pub(super) fn pod() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
            ("Runtime", "string", 1),
        ],
        cells,
    )
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match (summary.restarts, &summary.last_restart) {
        (0, _) | (_, None) => summary.restarts.to_string(),
        (n, Some(at)) => format!("{n} ({} ago)", age::since(at, now)),
    };
    let ip = match text(pod, "/status/podIPs/0/ip") {
        "" => text(pod, "/status/podIP"),
        ip => ip,
    };
    vec![
        name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.status),
        json!(restarts),
        created_ago(pod, now),
        or_none(ip),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        json!(readiness_gates(pod)),
        or_none(
            pod["metadata"]["annotations"][RUNTIME]
                .as_str()
                .unwrap_or(""),
        ),
    ]
}

struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    last_restart: Option<String>,
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, "/status/conditions")
        .iter()
        .find(|c| c["type"] == kind)
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let passed = gates
        .iter()
        .filter(|g| {
            condition(pod, g["conditionType"].as_str().unwrap_or(""))
                .is_some_and(|c| c["status"] == "True")
        })
        .count();
    format!("{passed}/{}", gates.len())
}

/// Counts restarts and remembers the latest.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or(0);
        let at = text(status, "/lastState/terminated/finishedAt");
        if !at.is_empty() && self.last.as_deref().is_none_or(|last| last < at) {
            self.last = Some(at.to_owned());
        }
    }
}

fn ended(terminated: &Value) -> String {
    let signal = terminated["signal"].as_i64().unwrap_or(0);
    if signal == 0 {
        format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0))
    } else {
        format!("Signal:{signal}")
    }
}

/// The status that the stock printer shows for a pod.
fn summarize(pod: &Value) -> Summary {
    let init_specs = items(pod, "/spec/initContainers");
    let restartable = |name: &Value| {
        init_specs
            .iter()
            .any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
    };
    let mut total = items(pod, "/spec/containers").len();
    total += init_specs
        .iter()
        .filter(|c| c["restartPolicy"] == "Always")
        .count();
    let mut ready = 0;
    let mut status = match text(pod, "/status/reason") {
        "" => text(pod, "/status/phase"),
        reason => reason,
    }
    .to_owned();
    if condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut status);
    }
    let mut init_restarts = Restarts::default();
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = false;
    for (n, container) in items(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        init_restarts.add(container);
        let sidecar = restartable(&container["name"]);
        if sidecar {
            sidecar_restarts.add(container);
        }
        let terminated = &container["state"]["terminated"];
        if terminated.is_object() && terminated["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            if container["ready"] == true {
                ready += 1;
            }
            continue;
        }
        let waiting = text(container, "/state/waiting/reason");
        status = if terminated.is_object() {
            match text(terminated, "/reason") {
                "" => format!("Init:{}", ended(terminated)),
                reason => format!("Init:{reason}"),
            }
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{n}/{}", init_specs.len())
        };
        initializing = true;
        break;
    }
    let mut restarts = init_restarts;
    let initialized = condition(pod, "Initialized").is_some_and(|c| c["status"] == "True");
    if !initializing || initialized {
        restarts = sidecar_restarts;
        let mut running = false;
        for container in items(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(container);
            let waiting = text(container, "/state/waiting/reason");
            let terminated = &container["state"]["terminated"];
            if !waiting.is_empty() {
                waiting.clone_into(&mut status);
            } else if terminated.is_object() {
                status = match text(terminated, "/reason") {
                    "" => ended(terminated),
                    reason => reason.to_owned(),
                };
            } else if container["ready"] == true && container["state"]["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        if status == "Completed" && running {
            let is_ready = condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
            status = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut status);
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut status);
        }
    }
    Summary {
        ready,
        total,
        status,
        restarts: restarts.count,
        last_restart: restarts.last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pod: Value) -> String {
        summarize(&pod).status
    }

    #[test]
    fn the_status_is_the_one_that_kubectl_users_know() {
        let one = json!([{"name": "c"}]);
        let cases = [
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Pending"}}),
                "Pending",
            ),
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Failed", "reason": "Evicted"}}),
                "Evicted",
            ),
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Pending", "containerStatuses": [
                {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]}}),
                "ContainerCreating",
            ),
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Running", "containerStatuses": [
                {"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
                "CrashLoopBackOff",
            ),
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Succeeded", "containerStatuses": [
                {"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
                "Completed",
            ),
            (
                json!({"spec": {"containers": one}, "status": {"phase": "Failed", "containerStatuses": [
                {"name": "c", "state": {"terminated": {"exitCode": 3}}}]}}),
                "ExitCode:3",
            ),
            (
                json!({"spec": {"containers": one, "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}}),
                "Init:0/1",
            ),
            (
                json!({"spec": {"containers": one, "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}),
                "Init:Error",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": one},
                "status": {"phase": "Running"}}),
                "Terminating",
            ),
        ];
        for (pod, expected) in cases {
            assert_eq!(status(pod), expected);
        }
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running",
            "containerStatuses": [{"name": "c", "restartCount": 2, "ready": true, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]}});
        let row = cells(&pod, "2026-01-01T00:01:00Z".parse().unwrap());
        assert_eq!(row[1], "1/1");
        assert_eq!(row[2], "Running");
        assert_eq!(row[3], "2 (60s ago)");
    }
}
