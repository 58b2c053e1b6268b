//! The times of a schedule that have passed since the last one.

use berth_core::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};

/// More missed times than this are told.
const MANY: usize = 100;
/// So many times are looked at one by one.
const COUNTED: usize = 2000;

/// What has passed.
pub(super) struct Missed {
    /// The last time that has come.
    pub(super) latest: Option<Timestamp>,
    /// More than a hundred have, without a start.
    pub(super) are_too_many: bool,
}

/// Looks from the last start, or from the CronJob's creation, no further back than its deadline.
pub(super) fn latest(
    cron: &CronJob,
    spec: &CronJobSpec,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
) -> Missed {
    let last = cron
        .status
        .as_ref()
        .and_then(|s| s.last_schedule_time.as_ref());
    let created = cron.metadata.creation_timestamp.as_ref();
    let mut earliest = last.or(created).map_or(now, |time| time.0);
    if let Some(seconds) = spec.starting_deadline_seconds
        && let Ok(bound) = now.checked_sub(SignedDuration::from_secs(seconds))
    {
        earliest = earliest.max(bound);
    }
    let mut missed = Missed {
        latest: None,
        are_too_many: false,
    };
    let (mut from, mut number) = (earliest, 0);
    while let Some(next) = schedule.next_after(&from.to_zoned(zone.clone())) {
        let next = next.timestamp();
        if next > now {
            break;
        }
        number += 1;
        missed.latest = Some(next);
        missed.are_too_many = number > MANY;
        from = match number {
            // So far back that only the end matters: the schedule's own step says where to go on.
            COUNTED => near_end(earliest, next, now),
            _ => next,
        };
    }
    missed
}

/// A time shortly before now: twice the mean distance of what has been counted, a week at least.
fn near_end(earliest: Timestamp, reached: Timestamp, now: Timestamp) -> Timestamp {
    let counted = i64::try_from(COUNTED).unwrap_or(i64::MAX);
    let mean = reached.duration_since(earliest).as_secs() / counted;
    let back = mean.saturating_mul(2).max(7 * 24 * 3600);
    let time = now.checked_sub(SignedDuration::from_secs(back));
    time.map_or(reached, |time| time.max(reached))
}
