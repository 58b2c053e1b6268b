//! The number inside a quantity: `coefficient * 10^exponent`, kept in one normal form.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

/// Normal form: no factor ten in the coefficient, zero has exponent 0, and `Big` only for what `i128` cannot
/// hold. Equal values are therefore equal structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Small { coefficient: i128, exponent: i32 },
    Big { coefficient: BigInt, exponent: i32 },
}

impl Amount {
    pub(super) const ZERO: Self = Self::Small {
        coefficient: 0,
        exponent: 0,
    };

    pub(super) fn new(coefficient: i128, exponent: i32) -> Self {
        if coefficient == 0 {
            return Self::ZERO;
        }
        let (mut c, mut e) = (coefficient, exponent);
        // Dividing 128 bits is a function call, and most amounts need only 64.
        if let Ok(mut short) = i64::try_from(c) {
            while short % 10 == 0 {
                short /= 10;
                e += 1;
            }
            c = i128::from(short);
        }
        while c % 10 == 0 {
            c /= 10;
            e += 1;
        }
        Self::Small {
            coefficient: c,
            exponent: e,
        }
    }

    pub(super) fn big(coefficient: BigInt, exponent: i32) -> Self {
        if let Ok(small) = i128::try_from(&coefficient) {
            return Self::new(small, exponent);
        }
        let (mut c, mut e) = (coefficient, exponent);
        let ten = BigInt::from(10);
        while (&c % &ten).sign() == Sign::NoSign {
            c /= &ten;
            e += 1;
        }
        match i128::try_from(&c) {
            Ok(small) => Self::new(small, e),
            Err(_) => Self::Big {
                coefficient: c,
                exponent: e,
            },
        }
    }

    pub(super) fn coefficient(&self) -> BigInt {
        match self {
            Self::Small { coefficient, .. } => BigInt::from(*coefficient),
            Self::Big { coefficient, .. } => coefficient.clone(),
        }
    }

    pub(super) fn exponent(&self) -> i32 {
        match self {
            Self::Small { exponent, .. } | Self::Big { exponent, .. } => *exponent,
        }
    }

    /// The order of the value against zero.
    pub(super) fn sign(&self) -> Ordering {
        match self {
            Self::Small { coefficient, .. } => coefficient.cmp(&0),
            Self::Big { coefficient, .. } => match coefficient.sign() {
                Sign::Minus => Ordering::Less,
                Sign::NoSign => Ordering::Equal,
                Sign::Plus => Ordering::Greater,
            },
        }
    }

    pub(super) fn neg(&self) -> Self {
        match self {
            Self::Small {
                coefficient,
                exponent,
            } => match coefficient.checked_neg() {
                Some(c) => Self::new(c, *exponent),
                None => Self::big(-BigInt::from(*coefficient), *exponent),
            },
            Self::Big {
                coefficient,
                exponent,
            } => Self::big(-coefficient, *exponent),
        }
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        if self.sign() == Ordering::Equal {
            return other.clone();
        }
        if other.sign() == Ordering::Equal {
            return self.clone();
        }
        let exponent = self.exponent().min(other.exponent());
        if let (Some(a), Some(b)) = (self.small_at(exponent), other.small_at(exponent))
            && let Some(sum) = a.checked_add(b)
        {
            return Self::new(sum, exponent);
        }
        Self::big(self.big_at(exponent) + other.big_at(exponent), exponent)
    }

    /// `self * 10^power`; an exponent that leaves its range stays at its end.
    pub(super) fn times_ten_to(mut self, power: i32) -> Self {
        if self.sign() != Ordering::Equal {
            let (Self::Small { exponent, .. } | Self::Big { exponent, .. }) = &mut self;
            *exponent = exponent.saturating_add(power);
        }
        self
    }

    /// `self * 2^bits`
    pub(super) fn times_two_to(self, bits: u32) -> Self {
        if let Self::Small {
            coefficient,
            exponent,
        } = self
            && let Some(product) = 1_i128
                .checked_shl(bits)
                .and_then(|factor| coefficient.checked_mul(factor))
        {
            return Self::new(product, exponent);
        }
        Self::big(self.coefficient() << bits, self.exponent())
    }

    pub(super) fn mul(&self, factor: i64) -> Self {
        if let Self::Small {
            coefficient,
            exponent,
        } = self
            && let Some(product) = coefficient.checked_mul(i128::from(factor))
        {
            return Self::new(product, *exponent);
        }
        Self::big(self.coefficient() * factor, self.exponent())
    }

    /// The coefficient at a lower (or equal) exponent, when it fits.
    fn small_at(&self, exponent: i32) -> Option<i128> {
        let Self::Small {
            coefficient,
            exponent: own,
        } = self
        else {
            return None;
        };
        let shift = u32::try_from(own.checked_sub(exponent)?).ok()?;
        coefficient.checked_mul(10_i128.checked_pow(shift)?)
    }

    /// The coefficient at a lower (or equal) exponent.
    pub(super) fn big_at(&self, exponent: i32) -> BigInt {
        let shift = u32::try_from(self.exponent() - exponent).unwrap_or(0);
        self.coefficient() * BigInt::from(10).pow(shift)
    }

    pub(super) fn is_integer(&self) -> bool {
        self.exponent() >= 0
    }

    pub(super) fn is_multiple_of_power(&self, exponent: i32) -> bool {
        self.exponent() >= exponent
    }

    /// The value in units of `10^exponent`, rounded away from zero.
    pub(super) fn rounded_at(&self, exponent: i32) -> BigInt {
        if self.exponent() >= exponent {
            return self.big_at(exponent);
        }
        let Ok(shift) = u32::try_from(exponent - self.exponent()) else {
            return BigInt::ZERO;
        };
        let divisor = BigInt::from(10).pow(shift);
        let c = self.coefficient();
        let quotient = &c / &divisor;
        if (&c % &divisor).sign() == Sign::NoSign {
            return quotient;
        }
        match c.sign() {
            Sign::Minus => quotient - 1,
            Sign::NoSign | Sign::Plus => quotient + 1,
        }
    }

    /// [`Self::rounded_at`] as `i64`, saturating.
    pub(super) fn ceil_at(&self, exponent: i32) -> i64 {
        if let Some(exact) = self.small_at(exponent)
            && let Ok(v) = i64::try_from(exact)
        {
            return v;
        }
        i64::try_from(self.rounded_at(exponent)).unwrap_or(match self.sign() {
            Ordering::Less => i64::MIN,
            Ordering::Equal | Ordering::Greater => i64::MAX,
        })
    }
}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.sign().cmp(&other.sign());
        if by_sign != Ordering::Equal || self.sign() == Ordering::Equal {
            return by_sign;
        }
        let exponent = self.exponent().min(other.exponent());
        if let (Some(a), Some(b)) = (self.small_at(exponent), other.small_at(exponent)) {
            return a.cmp(&b);
        }
        self.big_at(exponent).cmp(&other.big_at(exponent))
    }
}
