//! Durations as Go writes them: `1h15m`, `300ms`, `-1.5s`.

use std::time::Duration;

/// What is no duration, in the words of Go.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum DurationError {
    /// Not of the form.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that there is not.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// All that was given.
        text: String,
    },
}

/// Nanoseconds of each unit.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The duration; zero for one below it.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|u| u.1);
        let Some(unit) = unit else {
            return Err(DurationError::UnknownUnit {
                unit: rest_unit(rest).to_owned(),
                text: text.to_owned(),
            });
        };
        let whole: u64 = match whole {
            "" => 0,
            whole => whole.parse().map_err(|_| invalid())?,
        };
        let part = whole
            .checked_mul(unit)
            .and_then(|n| n.checked_add(fraction_of(fraction, unit)))
            .and_then(|n| nanos.checked_add(n))
            .filter(|n| i64::try_from(*n).is_ok());
        nanos = part.ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if is_negative {
        Duration::ZERO
    } else {
        Duration::from_nanos(nanos)
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The unit at the beginning of a part, after its number.
fn rest_unit(part: &str) -> &str {
    let unit = part.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let end = unit
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(unit.len());
    &unit[..end]
}

/// Nanoseconds of the digits behind the point.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut scale = unit;
    let mut nanos = 0;
    for digit in digits.bytes() {
        scale /= 10;
        nanos += u64::from(digit - b'0') * scale;
    }
    nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h1m1s", 3_661_000_000_000),
            ("300ms", 300_000_000),
            ("2us3ns", 2_003),
            ("-5s", 0),
            ("+5s", 5_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("10", "time: missing unit in duration \"10\""),
            ("1d2h", "time: unknown unit \"d\" in duration \"1d2h\""),
            (
                "9999999999999h",
                "time: invalid duration \"9999999999999h\"",
            ),
            (
                "99999999999999999999s",
                "time: invalid duration \"99999999999999999999s\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), why);
        }
    }
}
