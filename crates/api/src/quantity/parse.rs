//! Text to quantity.

use std::borrow::Cow;

use thiserror::Error;

use super::amount::Amount;
use super::{Format, Quantity};

/// The largest magnitude a binary-suffixed quantity can have; larger input is capped (apimachinery).
const MAX_BINARY: i64 = i64::MAX;
/// Nothing finer than this power of ten is kept.
const NANO: i32 = -9;
/// Larger decimal exponents name no amount of anything; refusing them bounds the work that input can cause.
const MAX_EXPONENT: i32 = 1000;

/// Why a text is no quantity. The wording is what users of Kubernetes know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseQuantityError {
    /// Not a number followed by a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The digits are no number.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is none of n, u, m, k, M, G, T, P, E, Ki..Ei, eN, EN.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

enum Scale {
    Ten(i32),
    Two(u32),
}

pub(super) fn parse(text: &str) -> Result<Quantity, ParseQuantityError> {
    if text.is_empty() {
        return Err(ParseQuantityError::Format);
    }
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(unsigned);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    check_suffix_shape(suffix)?;
    let (scale, format) = interpret(suffix).ok_or(ParseQuantityError::Suffix)?;

    let digits = if fraction.is_empty() {
        Cow::Borrowed(whole)
    } else {
        Cow::Owned(format!("{whole}{fraction}"))
    };
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| ParseQuantityError::Numeric)?;
    let coefficient = match digits.trim_start_matches('0') {
        "" => Amount::ZERO,
        significant if significant.len() <= 18 => Amount::new(
            significant
                .parse()
                .map_err(|_| ParseQuantityError::Numeric)?,
            -fraction_digits,
        ),
        significant => Amount::big(
            significant
                .parse()
                .map_err(|_| ParseQuantityError::Numeric)?,
            -fraction_digits,
        ),
    };
    let amount = match scale {
        Scale::Ten(exponent) => coefficient.times_ten_to(exponent),
        Scale::Two(bits) => coefficient.times_two_to(bits),
    };
    let amount = if amount.exponent() < NANO {
        round_to_nano(&amount)
    } else {
        amount
    };
    let (amount, format) = match format {
        Format::BinarySi => bound_binary(amount),
        Format::DecimalExponent | Format::DecimalSi => (amount, format),
    };
    let amount = if negative { amount.neg() } else { amount };
    Ok(Quantity { amount, format })
}

/// Away from zero: who asks for something gets something.
fn round_to_nano(amount: &Amount) -> Amount {
    // Below one nano (10^gap > 2^(3 gap)) the divisor, which input can make huge, need not be built.
    let gap = u64::from(NANO.abs_diff(amount.exponent()));
    if amount.coefficient().bits() <= gap * 3 {
        return Amount::new(1, NANO);
    }
    Amount::big(amount.rounded_at(NANO), NANO)
}

fn bound_binary(amount: Amount) -> (Amount, Format) {
    let max = Amount::new(i128::from(MAX_BINARY), 0);
    if amount > max {
        return (max, Format::BinarySi);
    }
    if amount > Amount::ZERO && amount < Amount::new(1, 0) {
        return (amount, Format::DecimalSi);
    }
    (amount, Format::BinarySi)
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Letters, then an optional sign, then digits; anything else is not of a quantity's form at all.
fn check_suffix_shape(suffix: &str) -> Result<(), ParseQuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(ParseQuantityError::Format)
    }
}

fn interpret(suffix: &str) -> Option<(Scale, Format)> {
    let known = match suffix {
        "n" => Scale::Ten(-9),
        "u" => Scale::Ten(-6),
        "m" => Scale::Ten(-3),
        "" => Scale::Ten(0),
        "k" => Scale::Ten(3),
        "M" => Scale::Ten(6),
        "G" => Scale::Ten(9),
        "T" => Scale::Ten(12),
        "P" => Scale::Ten(15),
        "E" => Scale::Ten(18),
        "Ki" => Scale::Two(10),
        "Mi" => Scale::Two(20),
        "Gi" => Scale::Two(30),
        "Ti" => Scale::Two(40),
        "Pi" => Scale::Two(50),
        "Ei" => Scale::Two(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            if exponent > i64::from(MAX_EXPONENT) {
                return None;
            }
            let exponent = i32::try_from(exponent.max(i64::from(i32::MIN / 2))).ok()?;
            return Some((Scale::Ten(exponent), Format::DecimalExponent));
        }
    };
    let format = match known {
        Scale::Ten(_) => Format::DecimalSi,
        Scale::Two(_) => Format::BinarySi,
    };
    Some((known, format))
}

impl From<ParseQuantityError> for String {
    fn from(error: ParseQuantityError) -> Self {
        error.to_string()
    }
}
