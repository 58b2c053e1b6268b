//! `format`: those that the stock server checks; others are text.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use berth_api::names;
use berth_cel::{Cidr, Regexp, Url, is_date, is_date_time, is_duration};
use serde_json::Value as Json;

/// A format, and how text is checked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// As the schema names it, for messages.
    pub(crate) name: &'static str,
    pub(crate) check: fn(&str) -> bool,
}

/// By their names without dashes, as the reference compares them.
static FORMATS: [Format; 26] = [
    Format {
        name: "bsonobjectid",
        check: |s| s.len() == 24 && hexadecimal(s),
    },
    Format {
        name: "uri",
        check: |s| Url::parse(s).is_ok(),
    },
    Format {
        name: "email",
        check: is_email,
    },
    Format {
        name: "hostname",
        check: is_hostname,
    },
    Format {
        name: "ipv4",
        check: |s| s.parse::<Ipv4Addr>().is_ok(),
    },
    Format {
        name: "ipv6",
        check: |s| s.parse::<Ipv6Addr>().is_ok(),
    },
    Format {
        name: "cidr",
        check: |s| Cidr::parse(s).is_ok(),
    },
    Format {
        name: "mac",
        check: is_mac,
    },
    Format {
        name: "uuid",
        check: |s| is_uuid(s, None),
    },
    Format {
        name: "uuid3",
        check: |s| is_uuid(s, Some('3')),
    },
    Format {
        name: "uuid4",
        check: |s| is_uuid(s, Some('4')),
    },
    Format {
        name: "uuid5",
        check: |s| is_uuid(s, Some('5')),
    },
    Format {
        name: "isbn",
        check: |s| is_isbn10(s) || is_isbn13(s),
    },
    Format {
        name: "isbn10",
        check: is_isbn10,
    },
    Format {
        name: "isbn13",
        check: is_isbn13,
    },
    Format {
        name: "creditcard",
        check: is_credit_card,
    },
    Format {
        name: "ssn",
        check: |s| matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", s),
    },
    Format {
        name: "hexcolor",
        check: |s| matches("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", s),
    },
    Format {
        name: "rgbcolor",
        check: is_rgb,
    },
    Format {
        name: "byte",
        check: |s| base64::engine::general_purpose::STANDARD.decode(s).is_ok(),
    },
    Format {
        name: "password",
        check: |_| true,
    },
    Format {
        name: "date",
        check: is_date,
    },
    Format {
        name: "duration",
        check: is_duration,
    },
    Format {
        name: "datetime",
        check: is_date_time,
    },
    Format {
        name: "k8sshortname",
        check: |s| names::dns1123_label(s).is_empty(),
    },
    Format {
        name: "k8slongname",
        check: |s| names::dns1123_subdomain(s).is_empty(),
    },
];

impl Format {
    /// The format of a schema for text; none when it isn't checked.
    pub(crate) fn of(schema: &Json) -> Option<Self> {
        if !matches!(
            schema.get("type").and_then(Json::as_str),
            None | Some("" | "string")
        ) {
            return None;
        }
        let name = schema
            .get("format")
            .and_then(Json::as_str)?
            .replace('-', "");
        FORMATS.iter().find(|format| format.name == name).copied()
    }
}

/// Whether the stock server knows a format for this type; it warns of others.
#[must_use]
pub fn is_known(kind: Option<&str>, format: &str) -> bool {
    match kind {
        None | Some("" | "string") => {
            let name = format.replace('-', "");
            FORMATS.iter().any(|known| known.name == name)
        }
        Some("integer") => matches!(format, "int32" | "int64"),
        Some("number") => matches!(format, "float" | "double"),
        Some(_) => false,
    }
}

/// For short patterns on short text.
fn matches(pattern: &str, text: &str) -> bool {
    text.len() < 100 && Regexp::compile(pattern).is_ok_and(|regexp| regexp.matches(text))
}

fn hexadecimal(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_email(text: &str) -> bool {
    // The address itself, or a name with the address in angle brackets.
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(at), Some(inner)) => inner.get(at + 1..).unwrap_or_default(),
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let dotted = |text: &str| {
        !text.is_empty() && !text.starts_with('.') && !text.ends_with('.') && !text.contains("..")
    };
    (quoted || (dotted(local) && local.chars().all(atom)))
        && dotted(domain)
        && domain.chars().all(atom)
}

fn is_hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let bytes = parts.len() * digits / 2;
        parts
            .iter()
            .all(|part| part.len() == digits && hexadecimal(part))
            && matches!(bytes, 6 | 8 | 20)
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::new();
    for (index, part) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        let rest = text
            .get(digits.len() + text.matches('-').count().min(index)..)
            .unwrap_or_default();
        let Some(part) = rest.get(..part).filter(|part| hexadecimal(part)) else {
            return false;
        };
        digits.push_str(part);
    }
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    let shape = dashes.is_empty() || dashes == [8, 13, 18, 23];
    let variant = !matches!(version, Some('4' | '5'))
        || matches!(
            digits.as_bytes().get(16),
            Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B')
        );
    shape
        && text.len() == 32 + dashes.len()
        && variant
        && version.is_none_or(|version| digits.chars().nth(12) == Some(version))
}

fn digits_of(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let text = digits_of(text);
    if text.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (index, c) in (1_u32..).zip(text.chars()) {
        let value = match c {
            'X' if index == 10 => 10,
            c => match c.to_digit(10) {
                Some(value) => value,
                None => return false,
            },
        };
        sum += index * value;
    }
    sum % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let text = digits_of(text);
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(index, digit)| digit * if index % 2 == 0 { 1 } else { 3 })
        .sum();
    text.len() == 13 && digits.len() == 13 && sum.is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    if text.len() > 100 {
        return false;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let known = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";
    let mut sum = 0;
    for (index, digit) in digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
    {
        let doubled = if index % 2 == 1 { digit * 2 } else { digit };
        sum += if doubled > 9 { doubled - 9 } else { doubled };
    }
    matches(known, &digits) && sum % 10 == 0
}

fn is_rgb(text: &str) -> bool {
    let Some(inside) = text
        .strip_prefix("rgb(")
        .and_then(|text| text.strip_suffix(')'))
    else {
        return false;
    };
    let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|part| part.parse::<u8>().is_ok() && !part.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Format;

    #[test]
    fn formats_take_what_they_name() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "00:1a:2b:3c:4d:5e", "00:1a:2b"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            (
                "uuid4",
                "123e4567-e89b-42d3-a456-426614174000",
                "123e4567-e89b-12d3-a456-426614174000",
            ),
            ("email", "a.b@example.com", "a.example.com"),
            ("hostname", "a.example.com", "a..b"),
            ("uri", "https://example.com/x", "example"),
            ("date", "2026-11-29", "2026-11-31"),
            ("date-time", "2026-11-29T20:08:41Z", "2026-11-29"),
            ("duration", "1h30m", "soon"),
            ("byte", "aGVsbG8=", "%%"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "111-22-3333", "11-22-3333"),
            ("hexcolor", "#FFF", "#FFFF"),
            ("rgbcolor", "rgb(1, 2, 255)", "rgb(1, 2, 256)"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "a_b"),
        ] {
            let known = Format::of(&json!({"type": "string", "format": format})).unwrap();
            assert!((known.check)(good), "{format} {good}");
            assert!(!(known.check)(bad), "{format} {bad}");
        }
        assert!(Format::of(&json!({"type": "string", "format": "made-up"})).is_none());
        assert!(Format::of(&json!({"type": "integer", "format": "date"})).is_none());
    }
}
