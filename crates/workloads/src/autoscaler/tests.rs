//! An autoscaler at work.

use proptest::prelude::*;
use serde_json::{Value, from_value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn scaler(spec: Value) -> HorizontalPodAutoscaler {
    let mut all = json!({"scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
        "minReplicas": 1, "maxReplicas": 10,
        "metrics": [cpu(50)]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": all})).unwrap()
}

fn cpu(percent: i32) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}})
}

fn scale(wanted: i32) -> Scale {
    let selector = "app=web".to_owned();
    Scale { wanted, selector }
}

/// A pod that requests a whole processor and 1000 bytes, is ready, and has run for long.
fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1000"}}}]},
        "status": {"phase": "Running", "startTime": at(-10_000).to_string(),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(-9_000).to_string()}]}})
}

fn pods(values: Vec<Value>) -> Vec<Pod> {
    values.into_iter().map(|v| from_value(v).unwrap()).collect()
}

fn many(number: usize) -> Vec<Pod> {
    pods((0..number).map(|n| pod(&format!("p{n}"))).collect())
}

/// Thousandths of a processor, and of a byte.
fn uses(found: &[(&str, i64)], when: Timestamp) -> BTreeMap<String, PodUse> {
    let of = |value: i64| {
        let amounts = [
            ("cpu".to_owned(), value),
            ("memory".to_owned(), value * 1000),
        ];
        [("c".to_owned(), amounts.into())].into()
    };
    let all = found.iter().map(|(name, value)| {
        let found = PodUse {
            at: when,
            window: jiff::SignedDuration::from_secs(15),
            containers: of(*value),
        };
        ((*name).to_owned(), found)
    });
    all.collect()
}

fn each(number: usize, value: i64, when: Timestamp) -> BTreeMap<String, PodUse> {
    let names: Vec<String> = (0..number).map(|n| format!("p{n}")).collect();
    let found: Vec<(&str, i64)> = names.iter().map(|n| (n.as_str(), value)).collect();
    uses(&found, when)
}

fn decide(
    scaler: &HorizontalPodAutoscaler,
    wanted: i32,
    pods: &[Pod],
    uses: BTreeMap<String, PodUse>,
    history: &mut History,
    now: Timestamp,
) -> Plan {
    let measured = Measured {
        pods,
        uses: Ok(uses),
        rivals: &[],
    };
    plan(scaler, &scale(wanted), &measured, history, now)
}

/// Where an autoscaler with an empty history goes.
fn goes(
    scaler: &HorizontalPodAutoscaler,
    wanted: i32,
    pods: &[Pod],
    uses: BTreeMap<String, PodUse>,
) -> i32 {
    let plan = decide(scaler, wanted, pods, uses, &mut History::default(), at(0));
    plan.resize.map_or(wanted, |resize| resize.to)
}

fn conditions(plan: &Plan) -> BTreeMap<String, (String, String)> {
    let all = plan.status.conditions.iter().flatten();
    all.map(|one| {
        let reason = one.reason.clone().unwrap_or_default();
        (one.type_.clone(), (one.status.clone(), reason))
    })
    .collect()
}

fn says(plan: &Plan, type_: &str) -> (String, String) {
    conditions(plan).remove(type_).unwrap_or_default()
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn twice_the_target_is_twice_the_replicas() {
    let plan = decide(
        &scaler(json!({})),
        3,
        &many(3),
        each(3, 1000, at(0)),
        &mut History::default(),
        at(0),
    );
    let resize = plan.resize.clone().unwrap();
    assert_eq!((resize.from, resize.to), (3, 6));
    assert_eq!(
        resize.reason,
        "cpu resource utilization (percentage of request) above target"
    );
    assert_eq!(says(&plan, "ScalingActive"), is("True", "ValidMetricFound"));
    assert_eq!(
        says(&plan, "ScalingLimited"),
        is("False", "DesiredWithinRange")
    );
    let shown = serde_json::to_value(plan.status.current_metrics).unwrap();
    assert_eq!(
        shown,
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 100, "averageValue": "1"}}}])
    );
}

#[test]
fn a_small_difference_changes_nothing_and_a_fraction_is_one_more() {
    let plain = scaler(json!({}));
    for (use_, to) in [(455, 4), (550, 4), (560, 5), (449, 4), (300, 4)] {
        assert_eq!(
            goes(&plain, 4, &many(4), each(4, use_, at(0))),
            to,
            "{use_}"
        );
    }
    let exact = json!({"behavior": {"scaleUp": {"tolerance": "10m", "policies": [{"type": "Pods", "value": 9,
        "periodSeconds": 60}]}}});
    assert_eq!(goes(&scaler(exact), 4, &many(4), each(4, 510, at(0))), 5);
}

#[test]
fn memory_by_value_and_one_container_alone() {
    let value = json!({"metrics": [{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "500"}}}]});
    assert_eq!(goes(&scaler(value), 2, &many(2), each(2, 1000, at(0))), 4);
    let metric = |container: &str| {
        json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": container,
            "target": {"type": "Utilization", "averageUtilization": 50}}}]})
    };
    assert_eq!(
        goes(&scaler(metric("c")), 2, &many(2), each(2, 750, at(0))),
        3
    );
    let other = scaler(metric("other"));
    let plan = decide(
        &other,
        2,
        &many(2),
        each(2, 750, at(0)),
        &mut History::default(),
        at(0),
    );
    assert_eq!(plan.resize, None);
    assert_eq!(
        says(&plan, "ScalingActive"),
        is("False", "FailedGetContainerResourceMetric")
    );
}

#[test]
fn of_several_metrics_the_highest_counts() {
    let two = scaler(json!({"metrics": [cpu(50), cpu(25)]}));
    assert_eq!(goes(&two, 2, &many(2), each(2, 500, at(0))), 4);
}

#[test]
fn a_metric_that_fails_lets_others_scale_up_and_never_down() {
    let pods_metric = json!({"type": "Pods", "pods": {"metric": {"name": "requests"},
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    let two = scaler(json!({"metrics": [cpu(50), pods_metric]}));
    assert_eq!(goes(&two, 2, &many(2), each(2, 1000, at(0))), 4);
    let plan = decide(
        &two,
        4,
        &many(4),
        each(4, 100, at(400)),
        &mut History::default(),
        at(400),
    );
    assert_eq!(plan.resize, None);
    assert_eq!(
        says(&plan, "ScalingActive"),
        is("False", "FailedGetPodsMetric")
    );
    let texts: Vec<&str> = plan
        .events
        .iter()
        .map(|event| event.message.as_str())
        .collect();
    assert!(
        texts[1].starts_with(
            "invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value"
        ),
        "{texts:?}"
    );
}

#[test]
fn what_cannot_be_known_is_said() {
    let plain = scaler(json!({}));
    let measured = Measured {
        pods: &many(2),
        uses: Err("no metrics returned from resource metrics API".to_owned()),
        rivals: &[],
    };
    let plan_ = plan(&plain, &scale(2), &measured, &mut History::default(), at(0));
    assert_eq!(plan_.resize, None);
    assert_eq!(
        plan_.events[0].message,
        "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource \
         metrics API"
    );
    let mut without = pod("p0");
    without["spec"]["containers"][0]["resources"] = json!({});
    let plan_ = decide(
        &plain,
        1,
        &pods(vec![without]),
        each(1, 10, at(0)),
        &mut History::default(),
        at(0),
    );
    assert_eq!(
        plan_.events[0].message,
        "failed to get cpu utilization: missing request for cpu in container c of Pod p0"
    );
    let rivals = ["n/a".to_owned(), "n/web".to_owned()];
    let measured = Measured {
        pods: &many(2),
        uses: Ok(each(2, 1000, at(0))),
        rivals: &rivals,
    };
    let plan_ = plan(&plain, &scale(2), &measured, &mut History::default(), at(0));
    assert_eq!(plan_.resize, None);
    assert_eq!(
        says(&plan_, "ScalingActive"),
        is("False", "AmbiguousSelector")
    );
    let plan_ = without_scale(&plain, "deployments.apps \"web\" not found", at(0));
    assert_eq!(says(&plan_, "AbleToScale"), is("False", "FailedGetScale"));
}

#[test]
fn pods_that_start_or_say_nothing_do_not_make_it_overshoot() {
    let plain = scaler(json!({}));
    // One is not ready: it counts as using nothing when there would be more.
    let mut young = pod("p2");
    young["status"]["startTime"] = json!(at(-20).to_string());
    young["status"]["conditions"][0] =
        json!({"type": "Ready", "status": "False", "lastTransitionTime": at(-20).to_string()});
    let three = pods(vec![pod("p0"), pod("p1"), young]);
    assert_eq!(goes(&plain, 3, &three, each(3, 1000, at(0))), 4);
    // And not at all when there would be fewer.
    assert_eq!(goes(&plain, 3, &three, each(3, 100, at(0))), 3);
    // Of one nothing is known: it counts as using all it requests when there would be fewer.
    let two = uses(&[("p0", 100), ("p1", 100)], at(0));
    let mut old = History::default();
    old.begin(1, at(-1000));
    let plan = decide(&plain, 3, &many(3), two.clone(), &mut old, at(0));
    assert_eq!(plan.resize.map(|r| r.to), None);
    let plan = decide(&plain, 6, &many(6), each(5, 100, at(0)), &mut old, at(400));
    assert_eq!(plan.resize.map(|r| r.to), Some(3));
    // Pods that go count for nothing.
    let mut going = pod("p2");
    going["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
    let three = pods(vec![pod("p0"), pod("p1"), going]);
    assert_eq!(goes(&plain, 2, &three, each(3, 1000, at(0))), 4);
}

#[test]
fn bounds_go_before_metrics() {
    let plain = scaler(json!({"minReplicas": 2, "maxReplicas": 5}));
    for (wanted, to) in [(9, Some(5)), (1, Some(2)), (0, None)] {
        assert!(!needs_metrics(&plain, &scale(wanted)));
        let plan = decide(
            &plain,
            wanted,
            &[],
            BTreeMap::new(),
            &mut History::default(),
            at(0),
        );
        assert_eq!(plan.resize.clone().map(|resize| resize.to), to);
        if wanted == 0 {
            assert_eq!(says(&plan, "ScalingActive"), is("False", "ScalingDisabled"));
        }
    }
    let plan = decide(
        &plain,
        3,
        &many(3),
        each(3, 5000, at(0)),
        &mut History::default(),
        at(0),
    );
    assert_eq!(plan.resize.clone().map(|resize| resize.to), Some(5));
    assert_eq!(says(&plan, "ScalingLimited"), is("True", "TooManyReplicas"));
}

#[test]
fn it_shrinks_only_after_five_minutes_of_less() {
    let plain = scaler(json!({}));
    let mut history = History::default();
    let six = many(6);
    let plan = decide(&plain, 6, &six, each(6, 500, at(0)), &mut history, at(0));
    assert_eq!(plan.resize, None);
    for seconds in (15..300).step_by(15) {
        let plan = decide(
            &plain,
            6,
            &six,
            each(6, 200, at(seconds)),
            &mut history,
            at(seconds),
        );
        assert_eq!(plan.resize, None, "after {seconds} s");
        assert_eq!(
            says(&plan, "AbleToScale"),
            is("True", "ScaleDownStabilized")
        );
    }
    let plan = decide(
        &plain,
        6,
        &six,
        each(6, 200, at(301)),
        &mut history,
        at(301),
    );
    assert_eq!(plan.resize.map(|resize| resize.to), Some(3));
}

#[test]
fn a_policy_bounds_the_pace_in_its_period() {
    let behavior = json!({"maxReplicas": 100, "behavior": {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
            {"type": "Pods", "value": 3, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]}}});
    let paced = scaler(behavior);
    let mut history = History::default();
    let mut step = |wanted: i32, use_: i64, seconds: i64| {
        let number = usize::try_from(wanted).unwrap();
        let plan = decide(
            &paced,
            wanted,
            &many(number),
            each(number, use_, at(seconds)),
            &mut history,
            at(seconds),
        );
        let Some(resize) = plan.resize.clone() else {
            return wanted;
        };
        let (status, event) = resized(&paced, &plan, &resize, Ok(()), &mut history, at(seconds));
        assert_eq!(status.desired_replicas, resize.to);
        assert_eq!(event.reason, "SuccessfulRescale");
        resize.to
    };
    assert_eq!(step(2, 5000, 0), 4);
    // Already as many more as the period allows.
    assert_eq!(step(4, 5000, 30), 4);
    // A new period: half as many again is more than two.
    assert_eq!(step(10, 5000, 90), 15);
    // Downwards the smaller change counts.
    assert_eq!(step(15, 10, 200), 12);
    assert_eq!(step(12, 10, 210), 12);
    assert_eq!(step(4, 10, 300), 2);
    let disabled = scaler(
        json!({"behavior": {"scaleDown": {"selectPolicy": "Disabled",
        "stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}}}),
    );
    assert_eq!(goes(&disabled, 5, &many(5), each(5, 10, at(0))), 5);
}

#[test]
fn a_resize_that_fails_is_said_and_not_counted() {
    let plain = scaler(json!({}));
    let mut history = History::default();
    let plan = decide(
        &plain,
        1,
        &many(1),
        each(1, 1000, at(0)),
        &mut history,
        at(0),
    );
    let resize = plan.resize.clone().unwrap();
    let before = history.clone();
    let (status, event) = resized(
        &plain,
        &plan,
        &resize,
        Err("forbidden"),
        &mut history,
        at(0),
    );
    assert_eq!(event.reason, "FailedRescale");
    assert_eq!((status.desired_replicas, status.last_scale_time), (0, None));
    assert_eq!(history, before);
}

#[test]
fn the_time_of_a_transition_is_kept() {
    let mut plain = scaler(json!({}));
    let first = decide(
        &plain,
        2,
        &many(2),
        each(2, 500, at(0)),
        &mut History::default(),
        at(0),
    );
    plain.status = Some(first.status.clone());
    let second = decide(
        &plain,
        2,
        &many(2),
        each(2, 500, at(60)),
        &mut History::default(),
        at(60),
    );
    assert_eq!(first.status, second.status);
}

proptest! {
    /// Whatever pods use and whatever happened before, the number stays within its bounds, and turns the way that the use does.
    #[test]
    fn always_within_bounds(
        found in prop::collection::vec(0_i64..3000, 1..12),
        behavior in prop::bool::ANY,
        steps in prop::collection::vec(0_i64..400, 1..8),
    ) {
        let spec = if behavior {
            json!({"minReplicas": 2, "maxReplicas": 7, "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 30, "selectPolicy": "Max",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
                "scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]}}})
        } else {
            json!({"minReplicas": 2, "maxReplicas": 7})
        };
        let scaler = scaler(spec);
        let mut history = History::default();
        let (mut wanted, mut now) = (3, 0);
        for (step, use_) in steps.iter().zip(found.iter().cycle()) {
            now += step;
            let number = usize::try_from(wanted).unwrap();
            let plan = decide(&scaler, wanted, &many(number), each(number, *use_, at(now)), &mut history, at(now));
            if let Some(resize) = plan.resize.clone() {
                prop_assert!((2..=7).contains(&resize.to));
                prop_assert_eq!(resize.from, wanted);
                let _ = resized(&scaler, &plan, &resize, Ok(()), &mut history, at(now));
                wanted = resize.to;
            }
        }
    }
}
