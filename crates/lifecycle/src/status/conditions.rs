//! Pod conditions, each keeping the time of its last change; conditions of others stay as they are.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::{init_containers, is_sidecar};
use super::Inputs;
use super::containers::Lists;

const OURS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];
/// Ours, too; they are there while they hold.
const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

/// Whether a node's agent writes this condition of a pod.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || [PENDING, IN_PROGRESS].contains(&name)
}

struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self {
            holds: false,
            reason: Some(reason),
            message,
        }
    }
}

pub(super) fn conditions(i: &Inputs<'_>, phase: &str, lists: &Lists) -> Vec<PodCondition> {
    let network = i
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.host_network)
        .unwrap_or(false);
    let sandbox = i
        .observed
        .sandbox()
        .is_some_and(|s| s.ready && (network || !s.ips.is_empty()));
    let ready_to_start = Verdict {
        holds: sandbox,
        reason: None,
        message: None,
    };
    let containers_ready = containers_ready(i, phase, lists);
    let ready = if containers_ready.holds {
        gates(i)
    } else {
        Verdict::no(
            containers_ready.reason.unwrap_or("ContainersNotReady"),
            containers_ready.message.clone(),
        )
    };
    let verdicts = [
        ready_to_start,
        initialized(i, phase, lists),
        ready,
        containers_ready,
        Verdict::yes(),
    ];
    let old = i.previous.conditions.as_deref().unwrap_or_default();
    let api = i
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let mut all: Vec<PodCondition> = OURS
        .iter()
        .zip(verdicts)
        .map(|(name, verdict)| condition(i, old, name, verdict))
        .collect();
    // What others wrote (readiness gates, DisruptionTarget) is theirs to change.
    all.extend(api.iter().filter(|c| !is_ours(&c.type_)).cloned());
    all.extend(resize(i, old));
    all
}

/// The conditions of a resize, while the pod can still run with other resources.
fn resize(i: &Inputs<'_>, old: &[PodCondition]) -> Vec<PodCondition> {
    if i.over || i.failed.is_some() {
        return Vec::new();
    }
    let both = [
        (PENDING, &i.resize.pending),
        (IN_PROGRESS, &i.resize.in_progress),
    ];
    both.into_iter()
        .filter_map(|(name, problem)| {
            let problem = problem.as_ref()?;
            let verdict = Verdict {
                holds: true,
                reason: None,
                message: (!problem.message.is_empty()).then(|| problem.message.clone()),
            };
            let mut condition = condition(i, old, name, verdict);
            condition.reason = (!problem.reason.is_empty()).then(|| problem.reason.clone());
            Some(condition)
        })
        .collect()
}

fn condition(i: &Inputs<'_>, old: &[PodCondition], name: &str, v: Verdict) -> PodCondition {
    let status = if v.holds { "True" } else { "False" };
    let since = old
        .iter()
        .find(|c| c.type_ == name && c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: v.reason.map(str::to_owned),
        message: v.message,
        last_transition_time: Some(since.unwrap_or(Time(i.now))),
        last_probe_time: None,
        observed_generation: i.pod.metadata.generation,
    }
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn initialized(i: &Inputs<'_>, phase: &str, lists: &Lists) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            holds: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let has_init = i
        .pod
        .spec
        .as_ref()
        .is_some_and(|s| !init_containers(s).is_empty());
    if i.initialized || !has_init {
        return Verdict::yes();
    }
    let open: Vec<&str> = lists
        .init
        .iter()
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    Verdict::no(
        "ContainersNotInitialized",
        Some(format!(
            "containers with incomplete status: {}",
            names(&open)
        )),
    )
}

fn containers_ready(i: &Inputs<'_>, phase: &str, lists: &Lists) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let sidecars: Vec<&str> = i
        .pod
        .spec
        .as_ref()
        .map(|s| {
            init_containers(s)
                .iter()
                .filter(|c| is_sidecar(c))
                .map(|c| c.name.as_str())
                .collect()
        })
        .unwrap_or_default();
    let unready = |s: &&ContainerStatus| !s.ready;
    let open: Vec<&str> = lists
        .init
        .iter()
        .filter(|s| sidecars.contains(&s.name.as_str()))
        .chain(&lists.app)
        .filter(unready)
        .map(|s| s.name.as_str())
        .collect();
    if open.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no(
            "ContainersNotReady",
            Some(format!("containers with unready status: {}", names(&open))),
        )
    }
}

fn gates(i: &Inputs<'_>) -> Verdict {
    let spec = i.pod.spec.as_ref();
    let conditions = i
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let mut messages = Vec::new();
    for gate in spec.iter().flat_map(|s| s.readiness_gates.iter().flatten()) {
        let name = &gate.condition_type;
        match conditions.iter().find(|c| &c.type_ == name) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {name:?} does not exist."
            )),
            Some(c) if c.status != "True" => messages.push(format!(
                "the status of pod readiness gate {name:?} is not \"True\", but {}",
                c.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", Some(messages.join(", ")))
    }
}
