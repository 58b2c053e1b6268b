//! Rules for single values that several kinds share, with the reference's messages.

use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Whether there are many more errors than anybody reads. A client chooses how long its lists are: what looks at each
/// item stops here.
pub(crate) fn is_full(errors: &[FieldError]) -> bool {
    errors.len() >= 10 * ERRORS_LIMIT
}

/// Drops a list that is there and empty: it counts as absent.
pub(crate) fn drop_empty<T>(list: &mut Option<Vec<T>>) {
    list.take_if(|list| list.is_empty());
}

/// Unset or empty text.
pub(crate) fn default_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// The text of a field; empty when it is unset.
pub(crate) fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// A number that may not be below zero.
pub(crate) fn non_negative(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    value: Option<impl Into<i64>>,
) {
    if let Some(value) = value.map(Into::into).filter(|v| *v < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(at, value, why));
    }
}

/// A number that must be above zero.
pub(crate) fn positive(errors: &mut Vec<FieldError>, at: &FieldPath, value: i64) {
    if value <= 0 {
        errors.push(FieldError::invalid(at, value, "must be greater than 0"));
    }
}

/// An enumeration: required, and one of the values.
pub(crate) fn one_of(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    value: &str,
    supported: &[&str],
) {
    if value.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        one_of_if_set(errors, at, Some(value), supported);
    }
}

/// An enumeration that may be unset.
pub(crate) fn one_of_if_set(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    value: Option<&str>,
    supported: &[&str],
) {
    if let Some(value) = value.filter(|value| !is_full(errors) && !supported.contains(value)) {
        errors.push(FieldError::not_supported(at, value, supported));
    }
}

/// A required text.
pub(crate) fn required(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
}

/// The number before the `%`.
fn percent(value: &str) -> Option<u64> {
    let digits = value.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// A number that is not negative, or a percentage.
pub(crate) fn int_or_percent(errors: &mut Vec<FieldError>, at: &FieldPath, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => non_negative(errors, at, Some(*number)),
        IntOrString::String(text) if percent(text).is_none() => {
            let why = "a valid percent string must be a numeric value followed by an ending '%' (e.g. '1%',  or '93%', \
                       regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(at, text, why));
        }
        IntOrString::String(_) => {}
    }
}

/// A percentage of more than a hundred is refused.
pub(crate) fn at_most_all(errors: &mut Vec<FieldError>, at: &FieldPath, value: &IntOrString) {
    if let IntOrString::String(text) = value
        && percent(text).is_some_and(|p| p > 100)
    {
        let why = "must not be greater than 100%";
        errors.push(FieldError::invalid(at, text, why));
    }
}

/// Whether it is zero or nothing of all; an invalid percentage, which is reported elsewhere, counts as zero.
pub(crate) fn is_none_of_all(value: Option<&IntOrString>) -> bool {
    match value {
        None => true,
        Some(IntOrString::Int(number)) => *number == 0,
        Some(IntOrString::String(text)) => percent(text).unwrap_or(0) == 0,
    }
}

/// An error when a counter of a status is lower than it was.
pub(crate) fn not_decremented(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    new: Option<i32>,
    old: Option<i32>,
) {
    if let Some(old) = old
        && new.is_none_or(|new| new < old)
    {
        let why = "cannot be decremented";
        errors.push(FieldError::invalid(at, new.unwrap_or(0), why));
    }
}

/// An IP address in either family; leading zeros and zones are none.
pub(crate) fn parse_ip(value: &str) -> Option<std::net::IpAddr> {
    value.parse().ok()
}

/// One error unless it is an IP address.
pub(crate) fn ip(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str) {
    if parse_ip(value).is_none() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(at, value, why));
    }
}

/// An address and the length of its network part.
pub(crate) fn parse_cidr(value: &str) -> Option<(std::net::IpAddr, u8)> {
    let (address, bits) = value.split_once('/')?;
    let is_number =
        bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|_| is_number)?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

/// One error unless it is a CIDR.
pub(crate) fn cidr(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str) {
    if parse_cidr(value).is_none() {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(at, value, why));
    }
}

/// Whether the address lies in the network.
pub(crate) fn contains((network, bits): (std::net::IpAddr, u8), address: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (network, address) {
        (V4(network), V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (V6(network), V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (V4(_), V6(_)) | (V6(_), V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_what_is_in_them() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "10.0.0.1", false),
        ] {
            let network = parse_cidr(network).unwrap();
            assert_eq!(contains(network, parse_ip(address).unwrap()), inside);
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "x/8",
            "fd00::/129",
        ] {
            assert_eq!(parse_cidr(bad), None, "{bad}");
        }
    }

    #[test]
    fn percentages() {
        let at = FieldPath::new("a");
        for (value, wrong, above) in [
            (IntOrString::Int(-1), true, false),
            (IntOrString::Int(0), false, false),
            (IntOrString::String("25%".to_owned()), false, false),
            (IntOrString::String("101%".to_owned()), false, true),
            (
                IntOrString::String("99999999999999999999999%".to_owned()),
                false,
                true,
            ),
            (IntOrString::String("-1%".to_owned()), true, false),
            (IntOrString::String("%".to_owned()), true, false),
            (IntOrString::String("5".to_owned()), true, false),
        ] {
            let mut errors = Vec::new();
            int_or_percent(&mut errors, &at, &value);
            assert_eq!(!errors.is_empty(), wrong, "{value:?}");
            let mut errors = Vec::new();
            at_most_all(&mut errors, &at, &value);
            assert_eq!(!errors.is_empty(), above, "{value:?}");
        }
    }
}
