//! Exact fixed-point quantities as in apimachinery's `resource.Quantity`.
//!
//! A quantity is `coefficient * 10^exponent` with an arbitrary-precision coefficient and nothing finer
//! than nano (finer input is rounded away from zero, as the reference does). It remembers
//! the family of suffix it was written with ([`Format`]) and prints itself in canonical form: no fraction
//! digits, the largest suffix that loses nothing.

mod amount;
mod parse;
mod print;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use amount::Amount;
pub use parse::ParseQuantityError;

/// The family of suffixes a quantity was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// An exact amount with the suffix family that it prints with. Compared by value: `1000m == 1`.
#[derive(Clone, Debug)]
pub struct Quantity {
    amount: Amount,
    format: Format,
}

impl Quantity {
    /// Zero, in the decimal family.
    pub const ZERO: Self = Self {
        amount: Amount::ZERO,
        format: Format::DecimalSi,
    };

    /// A whole number in the given family.
    #[must_use]
    pub fn new(value: i64, format: Format) -> Self {
        Self::scaled(value, 0, format)
    }

    /// `value / 1000`, in the decimal family.
    #[must_use]
    pub fn from_milli(value: i64) -> Self {
        Self::scaled(value, -3, Format::DecimalSi)
    }

    fn scaled(value: i64, exponent: i32, format: Format) -> Self {
        Self {
            amount: Amount::new(i128::from(value), exponent),
            format,
        }
    }

    /// The suffix family it prints with.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the value is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.amount.sign() == Ordering::Equal
    }

    /// Whether the value is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.amount.sign() == Ordering::Less
    }

    /// The value rounded away from zero to a whole number, saturating at the bounds of `i64`.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.amount.ceil_at(0)
    }

    /// A thousand times the value, rounded away from zero, saturating at the bounds of `i64`.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.amount.ceil_at(-3)
    }

    /// Whether the value is a whole number.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        self.amount.is_integer()
    }

    /// Whether it is a multiple of one thousandth.
    #[must_use]
    pub fn is_milli(&self) -> bool {
        self.amount.is_multiple_of_power(-3)
    }

    /// Rounded away from zero to a multiple of one thousandth.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        if self.is_milli() {
            return self;
        }
        Self {
            amount: Amount::big(self.amount.rounded_at(-3), -3),
            format: self.format,
        }
    }

    /// The larger of the two by value; `self` when equal.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    /// `self * factor`, exact.
    #[must_use]
    pub fn mul(&self, factor: i64) -> Self {
        Self {
            amount: self.amount.mul(factor),
            format: self.format,
        }
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.amount == other.amount
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.amount.cmp(&other.amount)
    }
}

/// Exact; a zero left side takes the family of the right one, as in the reference.
impl std::ops::AddAssign<&Self> for Quantity {
    fn add_assign(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.amount = self.amount.add(&other.amount);
    }
}

/// Exact; a zero left side takes the family of the right one, as in the reference.
impl std::ops::SubAssign<&Self> for Quantity {
    fn sub_assign(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.amount = self.amount.add(&other.amount.neg());
    }
}

impl std::ops::Add<&Self> for Quantity {
    type Output = Self;
    fn add(mut self, other: &Self) -> Self {
        self += other;
        self
    }
}

impl std::ops::Sub<&Self> for Quantity {
    type Output = Self;
    fn sub(mut self, other: &Self) -> Self {
        self -= other;
        self
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            amount: self.amount.neg(),
            format: self.format,
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        parse::parse(s)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::canonical(&self.amount, self.format))
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = ParseQuantityError;
    fn try_from(
        wire: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, Self::Error> {
        wire.0.trim().parse()
    }
}

impl From<&Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl From<Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// Serialized as the canonical string.
impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Read from a string or a bare number, as the reference reads them.
impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire =
            k8s_openapi::apimachinery::pkg::api::resource::Quantity::deserialize(deserializer)?;
        Self::try_from(&wire).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
