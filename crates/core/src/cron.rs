//! Schedules of cron: five fields, or a descriptor such as `@daily` or `@every 1h30m`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// A field: its name in errors, its first and last value, and names of its values.
struct Field {
    first: u8,
    last: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field {
        first: 0,
        last: 59,
        names: &[],
    },
    Field {
        first: 0,
        last: 23,
        names: &[],
    },
    Field {
        first: 1,
        last: 31,
        names: &[],
    },
    Field {
        first: 1,
        last: 12,
        names: &MONTHS,
    },
    Field {
        first: 0,
        last: 6,
        names: &DAYS,
    },
];

/// When something is done again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that match five fields.
    Fields(Fields),
    /// At an interval of whole seconds, at least one.
    Every(Duration),
}

/// The values of the five fields, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// One of the two fields for days says nothing: then the other decides, else either of them.
    is_one_day_field_free: bool,
}

/// The longest time that is looked ahead: `0 0 30 2 *` never comes.
const HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

impl Schedule {
    /// Reads a schedule as the stock controller does: five fields, or a descriptor.
    ///
    /// # Errors
    /// Why the text is none.
    pub fn parse(schedule: &str) -> Result<Self, String> {
        if let Some(descriptor) = schedule.strip_prefix('@') {
            return parse_descriptor(schedule, descriptor);
        }
        let parts: Vec<&str> = schedule.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
            let count = parts.len();
            return Err(format!(
                "expected exactly 5 fields, found {count}: {parts:?}"
            ));
        };
        let [of_minutes, of_hours, of_days, of_months, of_weekdays] = &FIELDS;
        Ok(Self::Fields(Fields {
            minutes: parse_field(minutes, of_minutes)?,
            hours: parse_field(hours, of_hours)?,
            days: parse_field(days, of_days)?,
            months: parse_field(months, of_months)?,
            weekdays: parse_field(weekdays, of_weekdays)?,
            is_one_day_field_free: is_free(days) || is_free(weekdays),
        }))
    }

    /// The first time after this one, by the clock on the wall there; none within the next five years.
    #[must_use]
    pub fn next_after(&self, time: &Zoned) -> Option<Zoned> {
        match self {
            Self::Every(interval) => {
                let interval = SignedDuration::try_from(*interval).ok()?;
                let next = time.timestamp().checked_add(interval).ok()?;
                let whole = Timestamp::from_second(next.as_second()).ok()?;
                Some(whole.to_zoned(time.time_zone().clone()))
            }
            Self::Fields(fields) => fields.next_after(time),
        }
    }
}

impl Fields {
    fn next_after(&self, time: &Zoned) -> Option<Zoned> {
        let end = time.timestamp().checked_add(HORIZON).ok()?;
        let zone = time.time_zone().clone();
        let seconds = time.timestamp().as_second();
        let minute = seconds.div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut time = Timestamp::from_second(minute).ok()?.to_zoned(zone);
        // A zone whose offset is no whole minute.
        while time.second() != 0 {
            time = time.checked_add(SignedDuration::from_secs(1)).ok()?;
        }
        while time.timestamp() < end {
            // A time that a change of the clock leaves out isn't met: the search goes on from what follows.
            if !has(self.months, time.month()) {
                let first = time.first_of_month().ok()?.checked_add(1.month()).ok()?;
                time = first.start_of_day().ok()?;
            } else if !self.is_day(&time) {
                time = time.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hours, time.hour()) {
                let rest = 60 - i64::from(time.minute());
                time = time.checked_add(SignedDuration::from_mins(rest)).ok()?;
            } else if !has(self.minutes, time.minute()) {
                time = time.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(time);
            }
        }
        None
    }

    fn is_day(&self, time: &Zoned) -> bool {
        let by_day = has(self.days, time.day());
        let by_weekday = has(self.weekdays, time.weekday().to_sunday_zero_offset());
        if self.is_one_day_field_free {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

/// Whether a field begins with a star or a question mark.
fn is_free(field: &str) -> bool {
    field
        .split(',')
        .any(|range| matches!(range.split('/').next(), Some("*" | "?")))
}

fn parse_field(part: &str, field: &Field) -> Result<u64, String> {
    let ranges = part
        .split(',')
        .filter(|range| !range.is_empty() || part.is_empty());
    let mut bits = 0;
    for range in ranges {
        bits |= parse_range(range, field)?;
    }
    Ok(bits)
}

fn parse_descriptor(schedule: &str, descriptor: &str) -> Result<Schedule, String> {
    let fields = match descriptor {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        other => {
            return match other.strip_prefix("every ") {
                Some(text) => match parse_duration(text) {
                    Some(seconds) => Ok(Schedule::Every(Duration::from_secs(seconds.max(1)))),
                    None => Err(format!("failed to parse duration {text:?}")),
                },
                None => Err(format!("unrecognized descriptor: {schedule}")),
            };
        }
    };
    Schedule::parse(fields)
}

/// `*`, `?`, a value, `A-B`, each with `/STEP`.
fn parse_range(range: &str, field: &Field) -> Result<u64, String> {
    let (span, step) = match range.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (range, None),
    };
    let number = |text: &str| -> Result<u32, String> {
        let position = field
            .names
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name));
        if let Some(at) = position.and_then(|at| u32::try_from(at).ok()) {
            return Ok(at + u32::from(field.first));
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("failed to parse int from {text}"));
        }
        text.parse()
            .map_err(|_| format!("failed to parse int from {text}"))
    };
    let (start, end) = match span.split_once('-') {
        _ if matches!(span, "*" | "?") => (u32::from(field.first), u32::from(field.last)),
        Some((start, end)) => (number(start)?, number(end)?),
        None => {
            let start = number(span)?;
            (
                start,
                if step.is_some() {
                    u32::from(field.last)
                } else {
                    start
                },
            )
        }
    };
    let mut stride = 1;
    if let Some(step) = step {
        let is_number = !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
        match step.parse::<u32>() {
            Ok(0) => {
                return Err(format!(
                    "step of range should be a positive number: {range}"
                ));
            }
            Ok(step) if is_number => stride = step,
            Ok(_) | Err(_) => return Err(format!("failed to parse int from {step}")),
        }
    }
    if start < u32::from(field.first) {
        let first = field.first;
        return Err(format!(
            "beginning of range ({start}) below minimum ({first}): {range}"
        ));
    }
    if end > u32::from(field.last) {
        let last = field.last;
        return Err(format!(
            "end of range ({end}) above maximum ({last}): {range}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    let stride = usize::try_from(stride).unwrap_or(usize::MAX);
    Ok((start..=end)
        .step_by(stride)
        .fold(0, |bits, at| bits | 1 << at))
}

/// A duration as Go writes it: numbers with units, `1h30m`. In seconds, rounded down; what is negative is 0.
fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let number: f64 = number.parse().ok()?;
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let (unit, factor) = units
            .into_iter()
            .filter(|(unit, _)| after.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        seconds += number * factor;
        rest = after.get(unit.len()..).unwrap_or_default();
    }
    if text.starts_with('-') {
        return Some(0);
    }
    // More than Go's durations hold is none.
    let whole = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    (whole.as_secs() <= 9_223_372_036).then_some(whole.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-MAR mon",
            "0 0 ? * 6",
            "5/15 * * * *",
            "@daily",
            "@every 1h30m",
            "@every 1.5s",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("* * * *", "expected exactly 5 fields, found 4"),
            ("* * * * * *", "expected exactly 5 fields, found 6"),
            ("60 * * * *", "end of range (60) above maximum (59)"),
            ("* * 0 * *", "beginning of range (0) below minimum (1)"),
            ("* * * * 7", "end of range (7) above maximum (6)"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1)",
            ),
            ("*/0 * * * *", "step of range should be a positive number"),
            ("a * * * *", "failed to parse int from a"),
            ("-1 * * * *", "failed to parse int from "),
            ("99999999999 * * * *", "failed to parse int"),
            ("@fortnightly", "unrecognized descriptor"),
            ("@every x", "failed to parse duration"),
            ("@every 1", "failed to parse duration"),
        ] {
            let got = Schedule::parse(bad).unwrap_err();
            assert!(got.contains(why), "{bad}: {got}");
        }
    }

    #[test]
    fn times_to_come() {
        for (schedule, from, wanted) in [
            (
                "* * * * *",
                "2026-01-01T00:00:30[UTC]",
                "2026-01-01T00:01:00[UTC]",
            ),
            (
                "* * * * *",
                "2026-01-01T00:01:00[UTC]",
                "2026-01-01T00:02:00[UTC]",
            ),
            (
                "*/20 8-9 * * *",
                "2026-01-01T08:40:00[UTC]",
                "2026-01-01T09:00:00[UTC]",
            ),
            (
                "*/20 8-9 * * *",
                "2026-01-01T09:40:00[UTC]",
                "2026-01-02T08:00:00[UTC]",
            ),
            (
                "5/15 * * * *",
                "2026-01-01T00:50:00[UTC]",
                "2026-01-01T01:05:00[UTC]",
            ),
            (
                "0 0 29 feb *",
                "2026-03-01T00:00:00[UTC]",
                "2028-02-29T00:00:00[UTC]",
            ),
            // Either the 13th or a Friday; with a star, both.
            (
                "0 0 13 * fri",
                "2026-01-03T00:00:00[UTC]",
                "2026-01-09T00:00:00[UTC]",
            ),
            (
                "0 0 13 * fri",
                "2026-01-10T00:00:00[UTC]",
                "2026-01-13T00:00:00[UTC]",
            ),
            (
                "0 0 */13 * fri",
                "2026-01-10T00:00:00[UTC]",
                "2026-02-27T00:00:00[UTC]",
            ),
            (
                "0 12 ? * sun",
                "2026-01-01T00:00:00[UTC]",
                "2026-01-04T12:00:00[UTC]",
            ),
            (
                "@monthly",
                "2026-12-05T00:00:00[UTC]",
                "2027-01-01T00:00:00[UTC]",
            ),
            (
                "@every 1h30m",
                "2026-01-01T00:00:00.7[UTC]",
                "2026-01-01T01:30:00[UTC]",
            ),
        ] {
            let from: Zoned = from.parse().unwrap();
            let next = Schedule::parse(schedule).unwrap().next_after(&from);
            let wanted: Zoned = wanted.parse().unwrap();
            assert_eq!(next, Some(wanted), "{schedule} from {from}");
        }
        let from: Zoned = "2026-01-01T00:00:00[UTC]".parse().unwrap();
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        assert_eq!(never.next_after(&from), None);
    }
}
