//! Schedules of cron: five fields, or a descriptor such as `@daily` or `@every 1h30m`.

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

/// Whether the text is a schedule.
///
/// # Errors
/// Why it is none.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if let Some(descriptor) = schedule.strip_prefix('@') {
        return check_descriptor(schedule, descriptor);
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let count = parts.len();
        return Err(format!(
            "expected exactly 5 fields, found {count}: {parts:?}"
        ));
    }
    parts
        .into_iter()
        .zip(&FIELDS)
        .try_for_each(|(part, field)| {
            part.split(',')
                .filter(|range| !range.is_empty() || part.is_empty())
                .try_for_each(|range| check_range(range, field))
        })
}

fn check_descriptor(schedule: &str, descriptor: &str) -> Result<(), String> {
    match descriptor {
        "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
        other => match other.strip_prefix("every ") {
            Some(duration) if is_duration(duration) => Ok(()),
            Some(duration) => Err(format!("failed to parse duration {duration:?}")),
            None => Err(format!("unrecognized descriptor: {schedule}")),
        },
    }
}

/// `*`, `?`, a value, `A-B`, each with `/STEP`.
fn check_range(range: &str, field: &Field) -> Result<(), String> {
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
    if let Some(step) = step {
        let is_number = !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
        match step.parse::<u32>() {
            Ok(0) => {
                return Err(format!(
                    "step of range should be a positive number: {range}"
                ));
            }
            Ok(_) if is_number => {}
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
    Ok(())
}

/// A duration as Go writes it: numbers with units, `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let is_number =
            number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() < 2;
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|u| after.starts_with(u))
            .max_by_key(|u| u.len());
        match unit {
            Some(unit) if is_number => rest = after.get(unit.len()..).unwrap_or_default(),
            Some(_) | None => return false,
        }
    }
    true
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
            assert_eq!(check(good), Ok(()), "{good}");
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
            let got = check(bad).unwrap_err();
            assert!(got.contains(why), "{bad}: {got}");
        }
    }
}
