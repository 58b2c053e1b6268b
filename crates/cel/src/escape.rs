//! Property names that are no identifiers of CEL, as expressions write them.

/// Words that cel-spec reserves: no identifier has such a name.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// The other words of the language.
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];
const PARTS: [(&str, &str); 4] = [
    ("__", "__underscores__"),
    (".", "__dot__"),
    ("-", "__dash__"),
    ("/", "__slash__"),
];

/// The name by which expressions reach a property; None when they can't: it begins with a digit, is empty, or has a
/// character that has no escape.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(|c| plain(c) || ".-/".contains(c))
    {
        return None;
    }
    // A property of such a name is written `__name__`.
    if RESERVED.contains(&name) || KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            Some((part, with)) => {
                escaped += with;
                rest = &rest[part.len()..];
            }
            None => {
                escaped.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_are_written_as_the_reference_writes_them() {
        for (name, escaped) in [
            ("plain", Some("plain")),
            ("namespace", Some("__namespace__")),
            ("a-b", Some("a__dash__b")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("x__y", Some("x__underscores__y")),
            ("_x", Some("_x")),
            ("", None),
            ("1a", None),
            ("a b", None),
            ("ä", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }
}
