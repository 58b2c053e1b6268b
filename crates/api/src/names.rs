//! What names, labels and keys may look like: the rules of apimachinery's `validation` package.
//!
//! Every function returns the list of what is wrong, empty when nothing is; each text is a whole explanation.

/// Longest DNS-1123 label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS-1123 subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// All annotations of an object together.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Letters of generated names: no vowels, so no words.
pub const GENERATED_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Result of a check: explanations, none when the value is right.
pub type Complaints = Vec<String>;

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `inner` bytes throughout, `edge` bytes at both ends, not empty.
fn shaped(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_label_shape(text: &str) -> bool {
    shaped(text, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

/// A DNS-1123 label: `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, at most 63.
#[must_use]
pub fn dns1123_label(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label_shape(value) {
        wrong.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name' or '123-abc')"
                .to_owned(),
        );
    }
    wrong
}

/// A DNS-1123 subdomain: labels joined by dots, at most 253.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if !value.split('.').all(is_label_shape) {
        wrong.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com')"
                .to_owned(),
        );
    }
    wrong
}

/// A DNS-1035 label: as DNS-1123, but begins with a letter.
#[must_use]
pub fn dns1035_label(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label_shape(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name' or 'abc-123')"
                .to_owned(),
        );
    }
    wrong
}

/// A DNS name as a search domain or similar may hold: a subdomain, with `_` allowed inside labels.
#[must_use]
pub fn dns1123_subdomain_with_underscore(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    let label = |l: &str| shaped(l, lower_alnum, |b| lower_alnum(b) || b == b'-' || b == b'_');
    let label = |l: &str| label(l.strip_prefix('_').unwrap_or(l));
    if !value.split('.').all(label) {
        wrong.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
             must start and end with an alphanumeric character"
                .to_owned(),
        );
    }
    wrong
}

fn qualified_shape(name: &str) -> bool {
    shaped(
        name,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// A qualified name: `[subdomain/]name` with a name of letters, digits, `-`, `_`, `.`, at most 63. Label and
/// annotation keys, resource names.
#[must_use]
pub fn qualified_name(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|w| format!("prefix part {w}")),
                );
            }
            name
        }
        _ => {
            wrong.push(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS \
                 subdomain prefix and '/' (e.g. 'example.com/MyName')"
                    .to_owned(),
            );
            return wrong;
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !qualified_shape(name) {
        wrong.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName', 'my.name' or '123-abc')"
                .to_owned(),
        );
    }
    wrong
}

/// A label value: empty, or as the name part of a qualified name.
#[must_use]
pub fn label_value(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !qualified_shape(value) {
        wrong.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue' or 'my_value')"
                .to_owned(),
        );
    }
    wrong
}

/// A name that is part of a URL path: not `.`, not `..`, no `/`, no `%`.
#[must_use]
pub fn path_segment(value: &str) -> Complaints {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    let mut wrong = Vec::new();
    for illegal in ['/', '%'] {
        if value.contains(illegal) {
            wrong.push(format!("may not contain '{illegal}'"));
        }
    }
    wrong
}

/// A port's number.
#[must_use]
pub fn port_number(value: i64) -> Complaints {
    if (1..=65535).contains(&value) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// A port's name: at most 15 of `[-a-z0-9]`, at least one letter, no `--`, no hyphen at an end.
#[must_use]
pub fn port_name(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > 15 {
        wrong.push("must be no more than 15 bytes".to_owned());
    }
    if value.is_empty() || !value.bytes().all(|b| lower_alnum(b) || b == b'-') {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// The name of an environment variable: printable ASCII but `=`.
#[must_use]
pub fn env_var_name(value: &str) -> Complaints {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    {
        Vec::new()
    } else {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
    }
}

/// A key of a ConfigMap or Secret: letters, digits, `-`, `_`, `.`, at most 253, not `.`, not beginning with `..`.
#[must_use]
pub fn config_map_key(value: &str) -> Complaints {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if value.is_empty()
        || !value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        wrong.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or \
             'KEY_NAME', or 'key-name')"
                .to_owned(),
        );
    }
    if value == "." || value == ".." {
        wrong.push(format!("must not be '{value}'"));
    } else if value.starts_with("..") {
        wrong.push("must not start with '..'".to_owned());
    }
    wrong
}

/// The prefix of a generated name: what a trailing dash would spoil is masked, as the reference does.
#[must_use]
pub fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if prefix.len() > 1 => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        let long63 = "a".repeat(63);
        let long64 = "a".repeat(64);
        for (value, label, subdomain) in [
            ("a", true, true),
            ("0", true, true),
            ("kata-qemu", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            (".a", false, false),
            ("A", false, false),
            ("a_b", false, false),
            ("ü", false, false),
            (long63.as_str(), true, true),
            (long64.as_str(), false, true),
        ] {
            assert_eq!(dns1123_label(value).is_empty(), label, "label {value:?}");
            assert_eq!(
                dns1123_subdomain(value).is_empty(),
                subdomain,
                "subdomain {value:?}"
            );
        }
        assert!(dns1123_subdomain(&"a".repeat(253)).is_empty());
        assert!(!dns1123_subdomain(&"a".repeat(254)).is_empty());
        assert!(!dns1035_label("0a").is_empty());
    }

    #[test]
    fn keys_values_and_the_rest() {
        for (key, good) in [
            ("a", true),
            ("example.com/A_b.c", true),
            ("/a", false),
            ("a/", false),
            ("a/b/c", false),
            ("Ex/a", false),
            ("bad key!", false),
            ("", false),
        ] {
            assert_eq!(qualified_name(key).is_empty(), good, "{key:?}");
        }
        for (value, good) in [
            ("", true),
            ("v", true),
            ("bad value!", false),
            ("-v", false),
        ] {
            assert_eq!(label_value(value).is_empty(), good, "{value:?}");
        }
        for (name, good) in [
            ("http", true),
            ("80", false),
            ("a--b", false),
            ("-a", false),
            ("a-very-long-name", false),
        ] {
            assert_eq!(port_name(name).is_empty(), good, "{name:?}");
        }
        for (key, good) in [
            ("a.b", true),
            ("..", false),
            ("..a", false),
            (".a", true),
            ("a/b", false),
        ] {
            assert_eq!(config_map_key(key).is_empty(), good, "{key:?}");
        }
        assert_eq!(without_trailing_dash("a-"), "aa");
        assert!(!env_var_name("a=b").is_empty() && env_var_name("a b").is_empty());
    }
}
