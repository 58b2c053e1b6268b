//! Quantity to text: the canonical form.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

use super::Format;
use super::amount::Amount;

const DECIMAL: [(i32, &str); 10] = [
    (-9, "n"),
    (-6, "u"),
    (-3, "m"),
    (0, ""),
    (3, "k"),
    (6, "M"),
    (9, "G"),
    (12, "T"),
    (15, "P"),
    (18, "E"),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

pub(super) fn canonical(amount: &Amount, format: Format) -> String {
    if amount.sign() == Ordering::Equal {
        return "0".to_owned();
    }
    match format {
        Format::DecimalExponent => {
            let (mantissa, exponent) = thousands(amount, i32::MAX);
            if exponent == 0 {
                mantissa.to_string()
            } else {
                format!("{mantissa}e{exponent}")
            }
        }
        Format::DecimalSi => decimal(amount),
        Format::BinarySi => binary(amount),
    }
}

/// Mantissa and the largest exponent divisible by three, at most `limit`, that loses nothing.
fn thousands(amount: &Amount, limit: i32) -> (BigInt, i32) {
    let exponent = amount.exponent();
    let exponent = (exponent - exponent.rem_euclid(3)).min(limit);
    (amount.big_at(exponent), exponent)
}

fn decimal(amount: &Amount) -> String {
    let (mantissa, exponent) = thousands(amount, 18);
    let suffix = DECIMAL
        .iter()
        .find(|(e, _)| *e == exponent)
        .map_or("", |(_, s)| s);
    format!("{mantissa}{suffix}")
}

/// Between -1024 and 1024, and where a fraction would be lost, the decimal family is used instead.
fn binary(amount: &Amount) -> String {
    let kilo = Amount::new(1024, 0);
    if !amount.is_integer() || (*amount < kilo && *amount > kilo.neg()) {
        return decimal(amount);
    }
    let mut mantissa = amount.big_at(0);
    let mut index = 0;
    let unit = BigInt::from(1024);
    while index + 1 < BINARY.len() && (&mantissa % &unit).sign() == Sign::NoSign {
        mantissa /= &unit;
        index += 1;
    }
    format!("{mantissa}{}", BINARY[index])
}
