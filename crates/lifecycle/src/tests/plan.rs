//! What to do next.

use std::collections::BTreeMap;

use super::super::plan::{Probes, plan};
use super::super::{Backoffs, Plan};
use super::{at, observed, pod, secs};

fn decide(policy: &str, containers: &str, seen: &str) -> Plan {
    let mut o = observed(seen);
    o.sort();
    plan(
        &pod(policy, containers),
        &o,
        &Probes::default(),
        &Backoffs::default(),
        &BTreeMap::new(),
        at(100),
    )
}

/// `kill-pod sandbox1 kill:a start:a1`.
fn words(p: &Plan) -> String {
    let mut words = Vec::new();
    if p.kill_pod {
        words.push("kill-pod".to_owned());
    }
    words.extend(p.create_sandbox.map(|n| format!("sandbox{n}")));
    words.extend(p.kill.iter().map(|k| format!("kill:{}", k.id)));
    words.extend(
        p.start
            .iter()
            .map(|s| format!("start:{}{}", s.name, s.attempt)),
    );
    words.extend(p.waiting.keys().map(|name| format!("wait:{name}")));
    if p.is_over {
        words.push("over".to_owned());
    }
    words.join(" ")
}

#[test]
fn what_is_done() {
    for (policy, containers, seen, want) in [
        // A new pod.
        ("Always", "app:a app:b", "", "sandbox0 start:a0 start:b0"),
        ("Always", "init:i app:a", "", "sandbox0 start:i0"),
        // In its sandbox.
        ("Always", "app:a", "s0", "start:a0"),
        ("Always", "app:a", "s0 a@s0=run", ""),
        ("Always", "app:a app:b", "s0 a@s0=run", "start:b0"),
        ("Always", "app:a", "s0 a@s0=created", "start:a1"),
        ("Always", "app:a", "s0 a@s0=unknown", "kill:a0 start:a1"),
        // Restart policies.
        ("Always", "app:a", "s0 a@s0=exit0", "start:a1"),
        ("OnFailure", "app:a", "s0 a@s0=exit1", "start:a1"),
        ("OnFailure", "app:a", "s0 a@s0=exit0", "kill-pod"),
        ("OnFailure", "app:a app:b", "s0 a@s0=exit0 b@s0=run", ""),
        ("Never", "app:a", "s0 a@s0=exit1", "kill-pod"),
        ("Never", "app:a app:b", "s0 a@s0=exit1 b@s0=run", ""),
        ("Never", "app:a app:b", "s0 a@s0=exit1", "start:b0"),
        // Init containers run one after the other.
        ("Always", "init:i init:j app:a", "s0 i@s0=run", ""),
        ("Always", "init:i init:j app:a", "s0 i@s0=exit0", "start:j0"),
        ("Always", "init:i app:a", "s0 i@s0=exit0", "start:a0"),
        ("Always", "init:i app:a", "s0 i@s0=exit1", "start:i1"),
        ("Never", "init:i app:a", "s0 i@s0=exit1", "kill-pod"),
        // Once the app has begun, init containers are not looked at again.
        ("Always", "init:i app:a", "s0 a@s0=run", ""),
        // Sidecars start in order and stay.
        ("Always", "sidecar:s app:a", "s0 s@s0=run", "start:a0"),
        ("Always", "sidecar:s app:a", "s0 s@s0=exit0", "start:s1"),
        (
            "Always",
            "sidecar:s app:a",
            "s0 s@s0=exit1 a@s0=run",
            "start:s1",
        ),
        (
            "Never",
            "sidecar:s app:a",
            "s0 s@s0=run a@s0=exit0",
            "kill-pod",
        ),
        // The sandbox died.
        (
            "Always",
            "app:a",
            "s0! a@s0=exit137",
            "kill-pod sandbox1 start:a1",
        ),
        (
            "Always",
            "init:i app:a",
            "s0! i@s0=exit0 a@s0=exit137",
            "kill-pod sandbox1 start:i1",
        ),
        ("Never", "app:a", "s0! a@s0=exit137", "kill-pod over"),
        // What has not run before does not run after that, and nobody waits for it.
        ("Never", "app:a app:b", "s0! a@s0=exit137", "kill-pod over"),
        (
            "Never",
            "app:a",
            "s0! a@s0=created",
            "kill-pod sandbox1 start:a1",
        ),
        (
            "Never",
            "app:a app:b",
            "s0! a@s0=exit0 b@s0=created",
            "kill-pod over",
        ),
        ("Never", "app:a", "s0!", "kill-pod sandbox1 start:a0"),
        ("OnFailure", "app:a", "s0! a@s0=exit0", "kill-pod"),
        (
            "OnFailure",
            "app:a app:b",
            "s0! a@s0=exit0 b@s0=exit1",
            "kill-pod sandbox1 start:b1",
        ),
        ("Always", "app:a", "s0! s1 a@s0=exit137", "start:a1"),
        (
            "Always",
            "init:i app:a",
            "s0! s1 i@s0=exit0 a@s0=exit1",
            "start:i1",
        ),
        // Two that are ready: neither can be trusted.
        (
            "Always",
            "app:a",
            "s0 s1 a@s0=run",
            "kill-pod sandbox2 start:a1",
        ),
    ] {
        let got = words(&decide(policy, containers, seen));
        assert_eq!(got, want, "{policy} | {containers} | {seen}");
    }
}

#[test]
fn a_sandbox_without_an_address_is_made_anew_unless_it_has_the_nodes_network() {
    let mut o = observed("s0");
    o.sandboxes[0].ips.clear();
    let mut p = pod("Always", "app:a");
    let decide = |p: &_| {
        plan(
            p,
            &o,
            &Probes::default(),
            &Backoffs::default(),
            &BTreeMap::new(),
            at(0),
        )
    };
    assert_eq!(words(&decide(&p)), "kill-pod sandbox1 start:a0");
    p.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(words(&decide(&p)), "start:a0");
}

#[test]
fn a_failed_probe_or_another_image_ends_the_container_and_starts_it_again() {
    let mut probes = Probes::default();
    probes
        .failed
        .insert("a0".into(), "Container a failed liveness probe".into());
    let seen = observed("s0 a@s0=run");
    let none = BTreeMap::new();
    let go = |policy: &str, probes: &Probes, changed: &BTreeMap<String, String>| {
        let p = pod(policy, "app:a");
        words(&plan(
            &p,
            &seen,
            probes,
            &Backoffs::default(),
            changed,
            at(0),
        ))
    };
    assert_eq!(go("Always", &probes, &none), "kill:a0 start:a1");
    assert_eq!(go("Never", &probes, &none), "kill-pod kill:a0");
    let changed = BTreeMap::from([("a".to_owned(), "changed".to_owned())]);
    assert_eq!(
        go("Never", &Probes::default(), &changed),
        "kill:a0 start:a1"
    );
}

#[test]
fn a_sidecar_holds_the_others_back_until_it_has_started() {
    let mut probes = Probes::default();
    probes.starting.insert("s0".into());
    let seen = observed("s0 s@s0=run");
    let p = pod("Always", "sidecar:s app:a");
    let got = plan(
        &p,
        &seen,
        &probes,
        &Backoffs::default(),
        &BTreeMap::new(),
        at(0),
    );
    assert_eq!(words(&got), "");
    assert!(!got.initialized);
}

#[test]
fn crashes_wait_longer_and_longer() {
    let p = pod("Always", "app:a");
    let seen = observed("s0 a@s0=exit1");
    let mut backoffs = Backoffs::default();
    let finished = at(2);
    let none = BTreeMap::new();
    let go = |b: &Backoffs, now| plan(&p, &seen, &Probes::default(), b, &none, now);
    assert_eq!(
        words(&go(&backoffs, at(2))),
        "start:a1",
        "the first restart is at once"
    );
    backoffs.next("a", finished, at(2));
    let waiting = go(&backoffs, at(5));
    assert_eq!(words(&waiting), "wait:a");
    assert_eq!(waiting.retry_at, Some(at(12)));
    assert_eq!(
        waiting.waiting["a"].message,
        "back-off 10s restarting failed container=a pod=p_ns(u)"
    );
    assert_eq!(words(&go(&backoffs, at(12))), "start:a1");
}

#[test]
fn back_off_doubles_to_five_minutes_and_starts_over_after_a_long_run() {
    let mut b = Backoffs::default();
    let mut now = at(0);
    let mut delays = Vec::new();
    for _ in 0..7 {
        b.next("k", now, now);
        delays.push(b.delay("k").unwrap().as_secs());
        now = now.checked_add(secs(1)).unwrap();
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    let much_later = now.checked_add(secs(601)).unwrap();
    assert_eq!(b.until("k", much_later, much_later), None);
    b.next("k", much_later, much_later);
    assert_eq!(b.delay("k").unwrap().as_secs(), 10);
    b.reset("k");
    assert_eq!(b.delay("k"), None);
}
