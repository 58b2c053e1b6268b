//! Phase, conditions and container statuses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceHealth, ResourceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::plan::Probes;
use super::super::{Inputs, Observed, Problem, Resize, status};
use super::{at, observed, pod};

struct Case<'a> {
    pod: Pod,
    seen: Observed,
    previous: PodStatus,
    probes: Probes,
    problems: BTreeMap<String, Problem>,
    failed: Option<&'a Problem>,
    initialized: bool,
    resize: Resize,
    devices: BTreeMap<String, Vec<ResourceStatus>>,
    over: bool,
    now: i64,
}

fn case(policy: &str, containers: &str, seen: &str) -> Case<'static> {
    Case {
        pod: pod(policy, containers),
        seen: observed(seen),
        previous: PodStatus::default(),
        probes: Probes::default(),
        problems: BTreeMap::new(),
        failed: None,
        initialized: true,
        resize: Resize::default(),
        devices: BTreeMap::new(),
        over: false,
        now: 10,
    }
}

impl Case<'_> {
    fn run(&self) -> PodStatus {
        status(Inputs {
            pod: &self.pod,
            previous: &self.previous,
            observed: &self.seen,
            probes: &self.probes,
            problems: &self.problems,
            failed: self.failed,
            initialized: self.initialized,
            resize: &self.resize,
            devices: &self.devices,
            recursive_read_only: true,
            over: self.over,
            host_ips: &["192.168.0.1".to_owned()],
            runtime_name: "berth",
            now: at(self.now),
        })
    }
}

fn condition<'a>(s: &'a PodStatus, name: &str) -> (&'a str, &'a str) {
    let c = s
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == name)
        .unwrap();
    (c.status.as_str(), c.reason.as_deref().unwrap_or_default())
}

#[test]
fn phases() {
    for (policy, containers, seen, over, want) in [
        ("Always", "app:a", "", false, "Pending"),
        ("Always", "app:a", "s0", false, "Pending"),
        ("Always", "app:a app:b", "s0 a@s0=run", false, "Pending"),
        ("Always", "app:a", "s0 a@s0=run", false, "Running"),
        ("Always", "app:a", "s0 a@s0=exit1", false, "Running"),
        ("Always", "app:a", "s0 a@s0=exit0", true, "Succeeded"),
        ("Always", "app:a", "s0! a@s0=exit137", true, "Failed"),
        ("OnFailure", "app:a", "s0 a@s0=exit1", false, "Running"),
        ("OnFailure", "app:a", "s0 a@s0=exit0", false, "Succeeded"),
        ("Never", "app:a", "s0 a@s0=exit0", false, "Succeeded"),
        ("Never", "app:a", "s0 a@s0=exit1", false, "Failed"),
        (
            "Never",
            "app:a app:b",
            "s0 a@s0=exit1 b@s0=run",
            false,
            "Running",
        ),
        ("Never", "init:i app:a", "s0 i@s0=exit1", false, "Failed"),
        ("Always", "init:i app:a", "s0 i@s0=exit1", false, "Pending"),
        ("Always", "init:i app:a", "s0 i@s0=run", false, "Pending"),
        (
            "Always",
            "init:i app:a",
            "s0 i@s0=exit0 a@s0=run",
            false,
            "Running",
        ),
        ("Always", "sidecar:s app:a", "s0 s@s0=run", false, "Pending"),
        (
            "Always",
            "sidecar:s app:a",
            "s0 s@s0=run a@s0=run",
            false,
            "Running",
        ),
        (
            "Always",
            "sidecar:s app:a",
            "s0 s@s0=exit1 a@s0=run",
            false,
            "Running",
        ),
        (
            "Never",
            "sidecar:s app:a",
            "s0! s@s0=exit137 a@s0=exit0",
            true,
            "Succeeded",
        ),
        ("Always", "app:a", "", true, "Failed"),
    ] {
        let mut c = case(policy, containers, seen);
        c.over = over;
        let got = c.run();
        assert_eq!(
            got.phase.as_deref(),
            Some(want),
            "{policy} | {containers} | {seen} | {over}"
        );
    }
}

#[test]
fn a_final_phase_is_never_left() {
    let mut c = case("Always", "app:a", "s0 a@s0=run");
    c.previous.phase = Some("Failed".into());
    c.previous.reason = Some("Evicted".into());
    let s = c.run();
    assert_eq!(s.phase.as_deref(), Some("Failed"));
    assert_eq!(s.reason.as_deref(), Some("Evicted"));
}

#[test]
fn a_pod_that_failed_as_a_whole_says_why() {
    let why = Problem::new("UnsupportedRuntimeHandler", "no runsc here");
    let mut c = case("Always", "app:a", "");
    c.failed = Some(&why);
    let s = c.run();
    assert_eq!(s.phase.as_deref(), Some("Failed"));
    assert_eq!(s.reason.as_deref(), Some("UnsupportedRuntimeHandler"));
    assert_eq!(condition(&s, "Ready"), ("False", "PodFailed"));
    assert_eq!(
        s.container_statuses, None,
        "its own reason is what kubectl shows"
    );
}

#[test]
fn a_running_pod() {
    let mut c = case("Always", "app:a", "s0 a@s0=exit1 a@s0=run");
    let s = c.run();
    let a = &s.container_statuses.as_ref().unwrap()[0];
    assert_eq!(a.container_id.as_deref(), Some("berth://a1"));
    assert_eq!((a.restart_count, a.ready, a.started), (1, true, Some(true)));
    assert!(a.state.as_ref().unwrap().running.is_some());
    let last = a.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(s.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(s.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(s.qos_class.as_deref(), Some("BestEffort"));
    for name in [
        "PodScheduled",
        "Initialized",
        "PodReadyToStartContainers",
        "Ready",
    ] {
        assert_eq!(condition(&s, name).0, "True", "{name}");
    }
    // A readiness probe that does not hold.
    c.probes.unready.insert("a1".into());
    c.previous = s.clone();
    c.now = 20;
    let s2 = c.run();
    assert_eq!(condition(&s2, "Ready"), ("False", "ContainersNotReady"));
    let time = |s: &PodStatus, name: &str| {
        let all = s.conditions.clone().unwrap();
        all.into_iter()
            .find(|c| c.type_ == name)
            .unwrap()
            .last_transition_time
    };
    assert_eq!(time(&s2, "Ready"), Some(Time(at(20))), "it changed");
    assert_eq!(time(&s2, "Initialized"), Some(Time(at(10))), "it did not");
    assert_eq!(s2.start_time, Some(Time(at(10))));
}

#[test]
fn a_crash_loop_shows_both_states() {
    let mut c = case("Always", "app:a", "s0 a@s0=exit3");
    c.problems
        .insert("a".into(), Problem::new("CrashLoopBackOff", "back-off 10s"));
    let s = c.run();
    let a = &s.container_statuses.unwrap()[0];
    let waiting = a.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = a.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(last.exit_code, 3);
    assert_eq!(s.phase.as_deref(), Some("Running"));
}

#[test]
fn containers_wait_for_initialization() {
    let mut c = case("Always", "init:i app:a", "s0 i@s0=run");
    c.initialized = false;
    let s = c.run();
    let reason = |list: &[k8s_openapi::api::core::v1::ContainerStatus]| {
        let state = list[0].state.clone().unwrap();
        state.waiting.and_then(|w| w.reason)
    };
    assert_eq!(
        reason(s.container_statuses.as_ref().unwrap()).as_deref(),
        Some("PodInitializing")
    );
    assert_eq!(
        condition(&s, "Initialized"),
        ("False", "ContainersNotInitialized")
    );
}

#[test]
fn what_the_runtime_forgot_stays_known() {
    let first = case("Never", "app:a", "s0 a@s0=exit2").run();
    let mut later = case("Never", "app:a", "");
    later.previous = first.clone();
    later.over = true;
    let s = later.run();
    assert_eq!(s.container_statuses, first.container_statuses);
    assert_eq!(s.phase.as_deref(), Some("Failed"));
}

#[test]
fn conditions_of_others_are_kept() {
    let mut c = case("Always", "app:a", "s0 a@s0=run");
    let gate = k8s_openapi::api::core::v1::PodCondition {
        type_: "example.org/gate".into(),
        status: "False".into(),
        ..Default::default()
    };
    c.pod.status.get_or_insert_default().conditions = Some(vec![gate.clone()]);
    c.pod.spec.as_mut().unwrap().readiness_gates =
        Some(vec![k8s_openapi::api::core::v1::PodReadinessGate {
            condition_type: "example.org/gate".into(),
        }]);
    let s = c.run();
    assert!(s.conditions.as_ref().unwrap().contains(&gate));
    assert_eq!(condition(&s, "Ready"), ("False", "ReadinessGatesNotReady"));
    assert_eq!(condition(&s, "ContainersReady").0, "True");
}

#[test]
fn a_container_shows_its_stop_signal_and_the_health_of_its_devices() {
    let mut case = case("Always", "app:a", "s0 a@s0=run");
    case.seen.containers[0].stop_signal = Some("SIGUSR1".to_owned());
    let gpu = ResourceStatus {
        name: "v.com/gpu".to_owned(),
        resources: Some(vec![ResourceHealth {
            resource_id: "d1".to_owned(),
            health: Some("Unhealthy".to_owned()),
            ..ResourceHealth::default()
        }]),
    };
    case.devices.insert("a".to_owned(), vec![gpu.clone()]);
    let status = &case.run().container_statuses.unwrap()[0];
    assert_eq!(status.stop_signal.as_deref(), Some("SIGUSR1"));
    assert_eq!(status.allocated_resources_status, Some(vec![gpu]));
}
