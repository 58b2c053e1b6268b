//! Amounts as the API writes them.

/// Thousandths of thousandths of a core, with the largest unit that leaves no fraction, as `resource.Quantity` has it.
pub(super) fn cores(nanocores: u64) -> String {
    if nanocores == 0 {
        return "0".to_owned();
    }
    let mut amount = nanocores;
    for unit in ["n", "u", "m"] {
        if !amount.is_multiple_of(1000) {
            return format!("{amount}{unit}");
        }
        amount /= 1000;
    }
    amount.to_string()
}

/// Bytes, in the largest unit of 1024 that leaves no fraction.
pub(super) fn bytes(bytes: u64) -> String {
    let mut amount = bytes;
    for unit in ["", "Ki", "Mi", "Gi", "Ti"] {
        if amount == 0 || !amount.is_multiple_of(1024) {
            return format!("{amount}{unit}");
        }
        amount /= 1024;
    }
    format!("{amount}Pi")
}

/// A time span as `metav1.Duration` has it: `15.012s`, `1m15s`, `2h0m0s`.
pub(super) fn duration(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut fraction = if rest == 0 {
        String::new()
    } else {
        format!(".{rest:03}")
    };
    fraction.truncate(fraction.trim_end_matches('0').len());
    let seconds = seconds % 60;
    match (hours, minutes) {
        (0, 0) if seconds == 0 && rest > 0 => format!("{rest}ms"),
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_quantities() {
        for (nanocores, text) in [
            (0, "0"),
            (1, "1n"),
            (12_345_678, "12345678n"),
            (12_000, "12u"),
            (250_000_000, "250m"),
            (2_000_000_000, "2"),
        ] {
            assert_eq!(cores(nanocores), text);
        }
        for (amount, text) in [
            (0, "0"),
            (1, "1"),
            (1024, "1Ki"),
            (1025, "1025"),
            (3 << 20, "3Mi"),
            (1 << 50, "1Pi"),
        ] {
            assert_eq!(bytes(amount), text);
        }
        for (span, text) in [
            (0, "0s"),
            (980, "980ms"),
            (1000, "1s"),
            (15_012, "15.012s"),
            (15_500, "15.5s"),
            (75_000, "1m15s"),
            (7_200_000, "2h0m0s"),
        ] {
            assert_eq!(duration(span), text);
        }
    }
}
