//! CronJobs whose time comes, was missed, or is waited for.

use jiff::Zoned;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use super::*;
use crate::tests::object;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn cron(spec: Value, last: Option<&str>) -> CronJob {
    let mut spec = spec;
    spec["jobTemplate"] = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": []}}}});
    object(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "cron", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": spec, "status": {"lastScheduleTime": last},
    }))
}

fn job(name: &str, end: Option<&str>, start: &str) -> Arc<Job> {
    let conditions: Vec<_> = end
        .iter()
        .map(|end| json!({"type": end, "status": "True"}))
        .collect();
    Arc::new(object(json!({
        "metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"template": {}},
        "status": {"conditions": conditions, "startTime": start, "completionTime": start},
    })))
}

#[test]
fn its_time_comes_once() {
    let cron = cron(json!({"schedule": "*/5 * * * *"}), None);
    let early = plan(&cron, &[], time("2026-01-01T00:04:59Z"));
    assert_eq!(
        (early.create, early.next),
        (None, Some(Duration::from_secs(1)))
    );
    let due = plan(&cron, &[], time("2026-01-01T00:05:02Z"));
    let (made, scheduled) = due.create.expect("a Job");
    assert_eq!(scheduled, time("2026-01-01T00:05:00Z"));
    assert_eq!(made.metadata.name.as_deref(), Some("c-29453765"));
    let annotations = made.metadata.annotations.clone().expect("annotations");
    assert_eq!(
        annotations.get(SCHEDULED).map(String::as_str),
        Some("2026-01-01T00:05:00Z")
    );
    assert_eq!(due.next, Some(Duration::from_secs(298)));
    // Whoever dies after the Job was created finds it; whoever wrote the status reads it.
    let mut there = *made;
    there.metadata.uid = Some("u".to_owned());
    let again = plan(
        &cron,
        &[Arc::new(there.clone())],
        time("2026-01-01T00:05:02Z"),
    );
    assert_eq!(again.create, None);
    assert_eq!(again.status.active.map(|active| active.len()), Some(1));
    let mut later = cron;
    later.status = Some(started(CronJobStatus::default(), &there, scheduled));
    assert_eq!(plan(&later, &[], time("2026-01-01T00:05:02Z")).create, None);
}

#[test]
fn what_was_missed_is_started_once_and_told_when_it_is_too_late() {
    let now = time("2026-01-02T00:00:10Z");
    let all = plan(&cron(json!({"schedule": "* * * * *"}), None), &[], now);
    assert_eq!(
        all.create.map(|(_, at)| at),
        Some(time("2026-01-02T00:00:00Z"))
    );
    assert_eq!(all.events[0].reason, "TooManyMissedTimes");
    // Years of minutes are not gone through one by one, and the last is still found.
    let began = std::time::Instant::now();
    let long = plan(
        &cron(
            json!({"schedule": "* * * * *"}),
            Some("2016-01-01T00:00:00Z"),
        ),
        &[],
        now,
    );
    assert_eq!(
        long.create.map(|(_, at)| at),
        Some(time("2026-01-02T00:00:00Z"))
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let late = json!({"schedule": "0 0 1 * *", "startingDeadlineSeconds": 60});
    let late = plan(&cron(late, Some("2025-12-01T00:00:00Z")), &[], now);
    assert_eq!(
        (late.create, late.events.len()),
        (None, 0),
        "what lies before the deadline is forgotten"
    );
}

#[test]
fn what_runs_already_decides() {
    let now = time("2026-01-01T00:05:00Z");
    let running = [job("old", None, "2026-01-01T00:00:00Z")];
    let of = |policy: &str| {
        plan(
            &cron(
                json!({"schedule": "*/5 * * * *", "concurrencyPolicy": policy}),
                None,
            ),
            &running,
            now,
        )
    };
    let allowed = of("Allow");
    assert!(allowed.create.is_some() && allowed.delete.is_empty());
    let forbidden = of("Forbid");
    assert_eq!(
        (forbidden.create, forbidden.events[0].reason),
        (None, "JobAlreadyActive")
    );
    let replaced = of("Replace");
    assert!(replaced.create.is_some());
    assert_eq!(
        (replaced.delete, replaced.status.active),
        (running.to_vec(), None)
    );
}

#[test]
fn suspended_and_unreadable_ones_start_nothing() {
    let now = time("2026-01-01T00:05:00Z");
    for (spec, reason) in [
        (json!({"schedule": "*/5 * * * *", "suspend": true}), None),
        (json!({"schedule": "x"}), Some("UnparseableSchedule")),
        (
            json!({"schedule": "*/5 * * * *", "timeZone": "Moon/Base"}),
            Some("UnknownTimeZone"),
        ),
    ] {
        let plan = plan(&cron(spec, None), &[], now);
        assert_eq!((plan.create, plan.next), (None, None));
        assert_eq!(plan.events.first().map(|e| e.reason), reason);
    }
}

#[test]
fn the_oldest_of_those_that_ended_go() {
    let jobs: Vec<_> = (1..=5)
        .map(|day| {
            job(
                &format!("ok-{day}"),
                Some("Complete"),
                &format!("2026-01-0{day}T00:00:00Z"),
            )
        })
        .chain((1..=3).map(|day| {
            job(
                &format!("bad-{day}"),
                Some("Failed"),
                &format!("2026-01-0{day}T00:00:00Z"),
            )
        }))
        .collect();
    let mut cron = cron(json!({"schedule": "@yearly", "suspend": true}), None);
    let active = json!([{"name": "ok-5", "uid": "ok-5"}, {"name": "lost", "uid": "lost"}]);
    cron.status.get_or_insert_default().active = Some(object(active));
    let plan = plan(&cron, &jobs, time("2026-01-06T00:00:00Z"));
    let gone: Vec<_> = plan
        .delete
        .iter()
        .filter_map(|job| job.metadata.name.clone())
        .collect();
    assert_eq!(gone, ["ok-1", "ok-2", "bad-1", "bad-2"]);
    let events: Vec<_> = plan.events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        events,
        [
            "Saw completed job: ok-5, condition: Complete",
            "Active job went missing: lost"
        ]
    );
    assert_eq!(plan.status.active, None);
    assert_eq!(
        plan.status.last_successful_time,
        Some(Time(time("2026-01-05T00:00:00Z")))
    );
}

/// The clock in Berlin goes from 2 to 3 o'clock on 29 March, and from 3 to 2 on 25 October.
#[test]
fn a_zone_and_its_changes_of_the_clock() {
    for (schedule, zone, from, wanted) in [
        (
            "0 9 * * *",
            "Asia/Tokyo",
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z",
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T00:30:00Z",
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "30 3 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-25T02:30:00Z",
        ),
    ] {
        let zone = time_zone(zone).expect("a zone");
        let next = Schedule::parse(schedule)
            .expect("a schedule")
            .next_after(&time(from).to_zoned(zone));
        assert_eq!(
            next.map(|next: Zoned| next.timestamp()),
            Some(time(wanted)),
            "{schedule} from {from}"
        );
    }
    let tokyo = cron(
        json!({"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo"}),
        None,
    );
    let (job, _) = plan(&tokyo, &[], time("2026-01-02T00:00:01Z"))
        .create
        .expect("a Job");
    let annotations = job.metadata.annotations.expect("annotations");
    assert_eq!(
        annotations.get(SCHEDULED).map(String::as_str),
        Some("2026-01-02T09:00:00+09:00")
    );
}
