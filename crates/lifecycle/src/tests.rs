//! Tables for plan, phase, status, admission, back-off and QoS.

mod plan;
mod resize;
mod rules;
mod status;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Observed, ObservedContainer, ObservedSandbox, RunState};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn secs(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// A pod from a short notation: `init:a sidecar:b app:c`.
pub(super) fn pod(policy: &str, containers: &str) -> Pod {
    let mut spec = PodSpec {
        restart_policy: Some(policy.to_owned()),
        ..PodSpec::default()
    };
    for word in containers.split_whitespace() {
        let (sort, name) = word.split_once(':').unwrap();
        let mut c = Container {
            name: name.to_owned(),
            image: Some("busybox".to_owned()),
            ..Container::default()
        };
        match sort {
            "app" => spec.containers.push(c),
            "init" => spec.init_containers.get_or_insert_default().push(c),
            "sidecar" => {
                c.restart_policy = Some("Always".to_owned());
                spec.init_containers.get_or_insert_default().push(c);
            }
            other => panic!("{other}"),
        }
    }
    Pod {
        metadata: ObjectMeta {
            name: Some("p".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// What the runtime has, from a short notation: `s0! s1` are sandboxes (`!`: not ready),
/// `a@s1=run`, `a@s1=exit1` containers in order of their attempts.
pub(super) fn observed(notation: &str) -> Observed {
    let mut seen = Observed::default();
    for word in notation.split_whitespace() {
        let Some((place, state)) = word.split_once('=') else {
            let id = word.trim_end_matches('!');
            seen.sandboxes.push(ObservedSandbox {
                id: id.to_owned(),
                attempt: id[1..].parse().unwrap(),
                ready: !word.ends_with('!'),
                ips: vec!["10.0.0.2".to_owned()],
                created_at: None,
                runtime_handler: String::new(),
            });
            continue;
        };
        let (name, sandbox) = place.split_once('@').unwrap();
        let attempt = seen.containers.iter().filter(|c| c.name == name).count();
        let (state, exit_code) = match state {
            "run" => (RunState::Running, 0),
            "created" => (RunState::Created, 0),
            "unknown" => (RunState::Unknown, 0),
            exit => (
                RunState::Exited,
                exit.strip_prefix("exit").unwrap().parse().unwrap(),
            ),
        };
        seen.containers.push(ObservedContainer {
            id: format!("{name}{attempt}"),
            name: name.to_owned(),
            sandbox_id: sandbox.to_owned(),
            attempt: u32::try_from(attempt).unwrap(),
            state,
            created_at: Some(at(0)),
            started_at: Some(at(1)),
            finished_at: (state == RunState::Exited).then(|| at(2)),
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: "busybox".to_owned(),
            image_ref: "sha256:0".to_owned(),
            user: None,
            stop_signal: None,
        });
    }
    seen.sort();
    seen
}
