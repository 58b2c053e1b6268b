//! Which annotations of pods and containers a handler lets through to its runtime.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a handler's `pod_annotations` and `container_annotations` are to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotationMatch {
    /// As containerd's, and in berth's own file: Go's `path.Match`, in which `*` and `?` stop at a slash.
    #[default]
    Pattern,
    /// As CRI-O's `allowed_annotations`: beginnings of names.
    Beginning,
}

impl AnnotationMatch {
    /// The annotations that one of `patterns` lets through.
    pub(crate) fn pass<'a>(
        self,
        patterns: &[String],
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> BTreeMap<String, String> {
        annotations
            .into_iter()
            .filter(|(name, _)| patterns.iter().any(|pattern| self.fits(pattern, name)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn fits(self, pattern: &str, name: &str) -> bool {
        match self {
            Self::Pattern => {
                let tokens = Token::all(pattern);
                tokens.is_some_and(|tokens| matches(&tokens, name))
            }
            Self::Beginning => name.starts_with(pattern),
        }
    }
}

/// A part of a pattern.
enum Token {
    /// `*`: any number of characters that are no slash.
    Any,
    /// `?`: one that is no slash.
    One,
    /// `[a-z]`, `[^a-z]`.
    Class {
        inverted: bool,
        ranges: Vec<(char, char)>,
    },
    Literal(char),
}

impl Token {
    /// The tokens of a pattern; `None` for one that Go calls bad, which matches nothing.
    fn all(pattern: &str) -> Option<Vec<Self>> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Self::Any,
                '?' => Self::One,
                '\\' => Self::Literal(rest.next()?),
                '[' => {
                    let inverted = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                            break;
                        }
                        let low = class_character(&mut rest)?;
                        let high = match rest.next_if_eq(&'-') {
                            Some(_) => class_character(&mut rest)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Self::Class { inverted, ranges }
                }
                c => Self::Literal(c),
            });
        }
        Some(tokens)
    }

    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => c != '/',
            Self::Class { inverted, ranges } => {
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                within != *inverted
            }
            Self::Literal(wanted) => *wanted == c,
        }
    }
}

/// A character in a class; `-` and `]` only behind a backslash.
fn class_character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

/// In time of both lengths' product at most: only the last star is ever tried again.
fn matches(pattern: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where it ended its match.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n).copied() {
        match pattern.get(p) {
            Some(Token::Any) => {
                p += 1;
                star = Some((p, n));
            }
            Some(token) if token.takes(c) => (p, n) = (p + 1, n + 1),
            Some(_) | None => {
                let Some((behind, end)) = star else {
                    return false;
                };
                // No earlier star can do what this one can't: it would have to take the slash, too.
                if !name.get(end).is_some_and(|c| Token::Any.takes(*c)) {
                    return false;
                }
                star = Some((behind, end + 1));
                (p, n) = (behind, end + 1);
            }
        }
    }
    let rest = pattern.get(p..).unwrap_or_default();
    rest.iter().all(|token| matches!(token, Token::Any))
}

#[cfg(test)]
mod tests {
    use super::AnnotationMatch::{self, Beginning, Pattern};

    #[test]
    fn patterns_match_as_containerds_do() {
        let cases: &[(AnnotationMatch, &str, &str, bool)] = &[
            (Pattern, "a.b", "a.b", true),
            (Pattern, "a.b", "a.b/c", false),
            (
                Pattern,
                "io.katacontainers.*",
                "io.katacontainers.config.hypervisor.default_vcpus",
                true,
            ),
            (
                Pattern,
                "io.katacontainers.*",
                "io.katacontainers.config/x",
                false,
            ),
            (Pattern, "io.katacontainers.*", "io.katacontainers", false),
            (Pattern, "*", "a.b", true),
            (Pattern, "*", "a.b/c", false),
            (Pattern, "*/*", "a.b/c", true),
            (Pattern, "a*/c*d", "ab/cxd", true),
            (Pattern, "a*d", "ab/cxd", false),
            (Pattern, "a?c", "abc", true),
            (Pattern, "a?c", "a/c", false),
            (Pattern, "[a-c]x", "bx", true),
            (Pattern, "[^a-c]x", "bx", false),
            (Pattern, "[^a-c]x", "dx", true),
            (Pattern, "a\\*", "a*", true),
            (Pattern, "a\\*", "ab", false),
            // Bad patterns match nothing.
            (Pattern, "[", "[", false),
            (Pattern, "[]a]", "]", false),
            (Pattern, "a\\", "a\\", false),
            (Pattern, "", "", true),
            (Pattern, "", "a", false),
            (Beginning, "a.b", "a.b/c", true),
            (Beginning, "a.b", "a.bc", true),
            (Beginning, "a.b*", "a.bc", false),
        ];
        for (how, pattern, name, wanted) in cases {
            assert_eq!(
                how.fits(pattern, name),
                *wanted,
                "{how:?} {pattern:?} {name:?}"
            );
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        assert!(!Pattern.fits(&"*a".repeat(60), &"a".repeat(59)));
        assert!(!Pattern.fits(&"*b".repeat(2000), &"a".repeat(20_000)));
    }
}
