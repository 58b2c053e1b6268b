use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;

fn q(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

#[test]
fn canonical_form() {
    for (text, want) in [
        ("0", "0"),
        ("0n", "0"),
        ("0Ki", "0"),
        ("00.00", "0"),
        ("-0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("007", "7"),
        ("0.25", "250m"),
        ("250m", "250m"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1100", "1100"),
        ("1024", "1024"),
        (".5", "500m"),
        ("5.", "5"),
        ("1.G", "1G"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1e4", "10e3"),
        ("12e-3", "12e-3"),
        ("1.2e2", "120"),
        ("1e-1", "100e-3"),
        ("1E", "1E"),
        ("1Ei", "1Ei"),
        ("64Mi", "64Mi"),
        ("65536Ki", "64Mi"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1023Ki", "1023Ki"),
        ("1000Ki", "1000Ki"),
        ("100.5Ki", "102912"),
        ("1.1Ki", "1126400m"),
        ("0.1m", "100u"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("-1", "-1"),
        ("-250m", "-250m"),
        ("-1.5Ki", "-1536"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        (
            "1111111111111111111111111111111111111111",
            "1111111111111111111111111111111111111111",
        ),
        ("100000E", "100000E"),
        ("8Ei", "9223372036854775807"),
        ("16Ei", "9223372036854775807"),
        ("-16Ei", "-9223372036854775807"),
        ("1e-2000000000", "1e-9"),
    ] {
        assert_eq!(q(text).to_string(), want, "{text:?}");
    }
}

#[test]
fn what_is_no_quantity() {
    for text in [
        "", "abc", "1.1.M", "1+1.0M", "0.1mi", "0.1am", ".5i", "1i", "-3.01i", "1 ", " 1", "+-1",
        "--1", "1K", "1ki", "1Mib", "1e", "1e+", "1e1.5", "1e9999", "0x10", "1_000", "NaN", "inf",
        "١",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text:?} was taken");
    }
}

#[test]
fn equal_by_value_in_any_notation() {
    for (a, b) in [
        ("0.25", "250m"),
        ("65536Ki", "64Mi"),
        ("1k", "1e3"),
        ("1", "1000000000n"),
        ("0", "0Gi"),
        ("1E", "1e18"),
    ] {
        assert_eq!(q(a), q(b));
    }
    assert!(
        q("1Ki") > q("1k") && q("-1") < q("0") && q("999999m") < q("1k") && q("1e40") > q("1E")
    );
}

#[test]
fn arithmetic_keeps_the_family_of_the_left_side() {
    for (a, b, sum, difference) in [
        ("1Gi", "512Mi", "1536Mi", "512Mi"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("250m", "1", "1250m", "-750m"),
        ("1Gi", "1", "1073741825", "1073741823"),
        (
            "9223372036854775807",
            "1",
            "9223372036854775808",
            "9223372036854775806",
        ),
    ] {
        assert_eq!((q(a) + &q(b)).to_string(), sum);
        assert_eq!((q(a) - &q(b)).to_string(), difference);
    }
    assert_eq!(
        q("1111111111111111111111111111111111111111")
            .mul(9)
            .to_string(),
        "9999999999999999999999999999999999999999"
    );
}

#[test]
fn whole_and_milli_values_round_away_from_zero() {
    for (text, value, milli) in [
        ("1m", 1, 1),
        ("1n", 1, 1),
        ("-1n", -1, -1),
        ("1500m", 2, 1500),
        ("0", 0, 0),
        ("1e30", i64::MAX, i64::MAX),
        ("-1e30", i64::MIN, i64::MIN),
        ("9223372036854775807", i64::MAX, i64::MAX),
    ] {
        assert_eq!(
            (q(text).value(), q(text).milli_value()),
            (value, milli),
            "{text}"
        );
    }
}

#[test]
fn json_takes_numbers_and_gives_strings() {
    let got: Quantity = serde_json::from_str("1.5").unwrap();
    assert_eq!(serde_json::to_string(&got).unwrap(), "\"1500m\"");
    assert!(serde_json::from_str::<Quantity>("\"abc\"").is_err());
}

/// The value of a text in nanos by schoolbook arithmetic, independent of the code under test.
fn nanos(negative: bool, whole: &str, fraction: &str, suffix: &str) -> BigInt {
    let ten = BigInt::from(10);
    let (numerator, mut exponent): (BigInt, i64) = match suffix {
        "n" => (BigInt::from(1), -9),
        "u" => (BigInt::from(1), -6),
        "m" => (BigInt::from(1), -3),
        "" => (BigInt::from(1), 0),
        "k" => (BigInt::from(1), 3),
        "M" => (BigInt::from(1), 6),
        "G" => (BigInt::from(1), 9),
        "T" => (BigInt::from(1), 12),
        "P" => (BigInt::from(1), 15),
        "E" => (BigInt::from(1), 18),
        "Ki" => (BigInt::from(1) << 10u32, 0),
        "Mi" => (BigInt::from(1) << 20u32, 0),
        "Gi" => (BigInt::from(1) << 30u32, 0),
        "Ti" => (BigInt::from(1) << 40u32, 0),
        "Pi" => (BigInt::from(1) << 50u32, 0),
        "Ei" => (BigInt::from(1) << 60u32, 0),
        e => (BigInt::from(1), e[1..].parse().unwrap()),
    };
    let mut c: BigInt = format!("0{whole}{fraction}").parse().unwrap();
    c *= numerator;
    exponent += 9 - i64::try_from(fraction.len()).unwrap();
    let magnitude = if exponent >= 0 {
        c * ten.pow(u32::try_from(exponent).unwrap())
    } else {
        let d = ten.pow(u32::try_from(-exponent).unwrap());
        (&c + &d - 1) / d
    };
    let magnitude = if suffix.ends_with('i') {
        magnitude.min(BigInt::from(i64::MAX) * 1_000_000_000)
    } else {
        magnitude
    };
    if negative { -magnitude } else { magnitude }
}

const SUFFIX: &str = "n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2}|E[+]?[0-9]{1,2}";

prop_compose! {
    fn texts()(sign in "[+-]?", whole in "[0-9]{0,25}", fraction in "[0-9]{0,14}", suffix in SUFFIX)
        -> (String, BigInt, Quantity) {
        let suffix = suffix.replace('+', "");
        let text = if fraction.is_empty() { format!("{sign}{whole}{suffix}") } else { format!("{sign}{whole}.{fraction}{suffix}") };
        let text = if text.is_empty() { "0".to_owned() } else { text };
        let quantity = q(&text);
        (text, nanos(sign == "-", &whole, &fraction, &suffix), quantity)
    }
}

fn as_nanos(q: &Quantity) -> BigInt {
    q.amount.big_at(-9)
}

proptest! {
    #[test]
    fn the_value_is_exact((text, nanos, quantity) in texts()) {
        prop_assert_eq!(as_nanos(&quantity), nanos, "{}", text);
    }

    #[test]
    fn printing_loses_nothing_and_is_a_fixed_point((text, _, quantity) in texts()) {
        let printed = quantity.to_string();
        let again = q(&printed);
        prop_assert_eq!(&again, &quantity, "{} -> {}", text, &printed);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn canonical_has_no_fraction_and_no_smaller_mantissa((_, _, quantity) in texts()) {
        let printed = quantity.to_string();
        prop_assert!(!printed.contains('.') && !printed.starts_with('+'));
        let digits: String = printed.chars().filter(char::is_ascii_digit).collect();
        let mantissa_end = printed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(printed.len());
        let suffix = &printed[mantissa_end..];
        let mantissa = printed[..mantissa_end].trim_start_matches('-');
        prop_assert!(digits == "0" || mantissa.starts_with(|c: char| c != '0'));
        if suffix != "E" && !suffix.ends_with('i') && mantissa != "0" && quantity.format != Format::BinarySi {
            prop_assert!(!mantissa.ends_with("000"), "{}", printed);
        }
    }

    #[test]
    fn order_and_arithmetic_are_those_of_integers((_, a, x) in texts(), (_, b, y) in texts(), k in any::<i64>()) {
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(x == y, a == b);
        prop_assert_eq!(as_nanos(&(x.clone() + &y)), &a + &b);
        prop_assert_eq!(as_nanos(&(x.clone() - &y)), &a - &b);
        prop_assert_eq!(as_nanos(&x.mul(k)), &a * k);
        prop_assert_eq!(as_nanos(&-x.clone()), -a);
        prop_assert_eq!(x.clone() + &y - &y, x);
    }

    #[test]
    fn no_text_panics(text in "[+-]?[0-9.]{0,5}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,11}|.{0,12}") {
        let _ = text.parse::<Quantity>();
    }
}
