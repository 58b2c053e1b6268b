//! Regular expressions in the syntax of Go (RE2), over the `regex` crate: linear time, and a bound on what an expression
//! takes to compile.
//!
//! The two syntaxes differ in details that are translated: Perl classes are ASCII, classes don't nest, a brace that
//! begins no repetition is a character, `\Q...\E` quotes, and repetitions end at 1,000.

mod shared;

use std::fmt::Write as _;

use regex_syntax::ast::ErrorKind;
use regex_syntax::hir::{Class, Hir, HirKind};

/// The largest count of a repetition (Go's).
const MAX_REPEAT: u32 = 1_000;
/// How large a compiled expression gets, in bytes.
const MAX_COMPILED: usize = 1 << 20;
/// How large an expression is after its repetitions are written out, in states. Go stops at 3,355 times its rune count
/// in memory; an expression above this takes milliseconds to compile.
const MAX_WEIGHT: u64 = 40_000;
/// How deep groups nest.
const MAX_NEST: u32 = 100;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Regexp {
    compiled: regex::Regex,
    weight: u64,
}

impl Regexp {
    /// Compiles an expression of Go's syntax.
    ///
    /// # Errors
    /// When it is no such expression, or too large; the text is Go's: ``error parsing regexp: missing closing ): `(` ``.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        Self::compile_weighed(pattern).1
    }

    /// Compiles an expression, and says how much there was to do, whatever came out.
    pub(crate) fn compile_weighed(pattern: &str) -> (u64, Result<Self, String>) {
        // Unicode classes are looked up by name: hundreds of ranges for a few characters.
        let classes = pattern.matches("\\p").count()
            + pattern.matches("\\P").count()
            + pattern.matches("(?i").count();
        let looked_up = u64::try_from(classes)
            .unwrap_or(u64::MAX)
            .saturating_mul(600);
        match Self::compile_within(pattern) {
            Ok(regexp) => (regexp.weight.max(looked_up), Ok(regexp)),
            Err((weight, error)) => (weight.max(looked_up), Err(error)),
        }
    }

    fn compile_within(pattern: &str) -> Result<Self, (u64, String)> {
        let wrong = |what: &str, part: &str| format!("error parsing regexp: {what}: `{part}`");
        let length = u64::try_from(pattern.len()).unwrap_or(u64::MAX);
        let translated = translate(pattern).map_err(|(what, part)| (length, wrong(what, &part)))?;
        let syntax = regex_syntax::ast::parse::ParserBuilder::new()
            .nest_limit(MAX_NEST)
            .build()
            .parse(&translated);
        let syntax = syntax.map_err(|error| (length, complaint(pattern, &translated, &error)))?;
        let tree = regex_syntax::hir::translate::Translator::new().translate(&translated, &syntax);
        let tree = tree.map_err(|_| (length, wrong("invalid character class range", pattern)))?;
        let weight = weight(&tree);
        if weight > MAX_WEIGHT {
            return Err((MAX_WEIGHT, wrong("expression too large", pattern)));
        }
        let compiled = regex::RegexBuilder::new(&translated)
            .size_limit(MAX_COMPILED)
            .nest_limit(MAX_NEST)
            .build();
        Ok(Self {
            compiled: compiled.map_err(|_| (MAX_WEIGHT, wrong("expression too large", pattern)))?,
            weight,
        })
    }

    /// Whether the expression matches somewhere.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The first match.
    pub(crate) fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.compiled.find(text).map(|found| found.as_str())
    }

    pub(crate) fn find_all<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.compiled.find_iter(text).map(|found| found.as_str())
    }
}

/// What is wrong with a pattern, in Go's words.
fn complaint(pattern: &str, translated: &str, error: &regex_syntax::ast::Error) -> String {
    let wrong = |what: &str, part: &str| format!("error parsing regexp: {what}: `{part}`");
    let span = error.span();
    let part = translated
        .get(span.start.offset..span.end.offset)
        .unwrap_or_default();
    let rest = translated.get(span.start.offset..).unwrap_or_default();
    match error.kind() {
        ErrorKind::GroupUnclosed => wrong("missing closing )", pattern),
        ErrorKind::GroupUnopened => wrong("unexpected )", pattern),
        ErrorKind::ClassUnclosed => wrong("missing closing ]", rest),
        ErrorKind::RepetitionMissing => {
            let operator: String = rest.chars().take(1).collect();
            wrong("missing argument to repetition operator", &operator)
        }
        ErrorKind::RepetitionCountInvalid => wrong("invalid repeat count", part),
        ErrorKind::ClassRangeInvalid | ErrorKind::ClassRangeLiteral => {
            wrong("invalid character class range", part)
        }
        ErrorKind::EscapeUnexpectedEof => wrong("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized | ErrorKind::UnsupportedBackreference => {
            wrong("invalid escape sequence", part)
        }
        ErrorKind::NestLimitExceeded(_) => wrong("expression nests too deeply", pattern),
        _ => wrong("invalid or unsupported Perl syntax", part),
    }
}

/// The number of states after repetitions are written out. The tree is bounded in depth by the parser.
fn weight(tree: &Hir) -> u64 {
    match tree.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => u64::try_from(literal.0.len()).unwrap_or(u64::MAX),
        HirKind::Class(Class::Unicode(class)) => u64::try_from(class.ranges().len())
            .unwrap_or(u64::MAX)
            .saturating_mul(4),
        HirKind::Class(Class::Bytes(class)) => {
            u64::try_from(class.ranges().len()).unwrap_or(u64::MAX)
        }
        HirKind::Repetition(repetition) => {
            let times = repetition
                .max
                .unwrap_or(repetition.min)
                .max(repetition.min)
                .max(1);
            weight(&repetition.sub).saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => weight(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .fold(1, |sum, part| weight(part).saturating_add(sum)),
    }
}

type Wrong = (&'static str, String);

struct Translator<'p> {
    rest: &'p str,
    out: String,
    /// Whether what was read last is a repetition: another one right behind it is an error.
    repeated: bool,
}

fn translate(pattern: &str) -> Result<String, Wrong> {
    let mut translator = Translator {
        rest: pattern,
        out: String::new(),
        repeated: false,
    };
    while let Some(c) = translator.next() {
        translator.one(c)?;
    }
    Ok(translator.out)
}

impl Translator<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Takes a character over as it is.
    fn keep(&mut self) {
        let next = self.next();
        self.out.extend(next);
    }

    fn one(&mut self, c: char) -> Result<(), Wrong> {
        let repeated = std::mem::take(&mut self.repeated);
        match c {
            '\\' => return self.escape(false),
            '[' => return self.class(),
            '*' | '+' | '?' => {
                if repeated {
                    return Err(("invalid nested repetition operator", c.to_string()));
                }
                self.out.push(c);
                self.lazy();
            }
            '{' => match self.repetition()? {
                Some(text) if repeated => return Err(("invalid nested repetition operator", text)),
                Some(text) => {
                    self.out += &text;
                    self.lazy();
                }
                None => self.out += "\\{",
            },
            '}' => self.out += "\\}",
            '(' if self.rest.starts_with('?') => return self.group(),
            c => self.out.push(c),
        }
        Ok(())
    }

    /// The `?` that makes a repetition take as little as it can.
    fn lazy(&mut self) {
        if self.peek() == Some('?') {
            self.keep();
        }
        self.repeated = true;
    }

    /// `{n}`, `{n,}` or `{n,m}`, of which the brace has been read; None when it is a character.
    fn repetition(&mut self) -> Result<Option<String>, Wrong> {
        let Some((inside, rest)) = self.rest.split_once('}') else {
            return Ok(None);
        };
        let (low, high) = inside
            .split_once(',')
            .map_or((inside, None), |(low, high)| (low, Some(high)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(low) || !high.is_none_or(|high| high.is_empty() || digits(high)) {
            return Ok(None);
        }
        let text = format!("{{{inside}}}");
        let low = low.parse().unwrap_or(u32::MAX);
        let high = high
            .filter(|high| !high.is_empty())
            .map_or(low, |high| high.parse().unwrap_or(u32::MAX));
        if low > MAX_REPEAT || high > MAX_REPEAT || high < low {
            return Err(("invalid repeat count", text));
        }
        self.rest = rest;
        Ok(Some(text))
    }

    /// `(?` and what follows: a name, or flags that Go has.
    fn group(&mut self) -> Result<(), Wrong> {
        let head: String = self
            .rest
            .chars()
            .take_while(|c| !matches!(c, ')' | ':' | '<' | '=' | '!'))
            .collect();
        let named = self.rest.starts_with("?P<")
            || (self.rest.starts_with("?<") && !self.rest[2..].starts_with(['=', '!']));
        let flags = head.trim_start_matches('?');
        let ends = self.rest[head.len()..].starts_with([')', ':']);
        let known = ends && flags.chars().all(|c| "imsU-".contains(c));
        if !named && !known {
            let shown: String = self.rest.chars().take(head.chars().count() + 1).collect();
            return Err(("invalid or unsupported Perl syntax", format!("({shown}")));
        }
        self.out.push('(');
        for _ in 0..head.chars().count() {
            self.keep();
        }
        Ok(())
    }

    /// What follows a backslash.
    fn escape(&mut self, class: bool) -> Result<(), Wrong> {
        let Some(c) = self.next() else {
            return Err(("trailing backslash at end of expression", String::new()));
        };
        let set = |plain: &'static str, negated: &'static str, not: bool| match (class, not) {
            (true, false) => plain.to_owned(),
            (true, true) => negated.to_owned(),
            (false, false) => format!("[{plain}]"),
            (false, true) => negated.to_owned(),
        };
        match c {
            'd' | 'D' => self.out += &set("0-9", "[^0-9]", c == 'D'),
            's' | 'S' => self.out += &set(r"\t\n\f\r ", r"[^\t\n\f\r ]", c == 'S'),
            'w' | 'W' => self.out += &set("0-9A-Za-z_", "[^0-9A-Za-z_]", c == 'W'),
            'b' if !class => self.out += r"(?-u:\b)",
            'Q' if !class => {
                let quoted = self.rest.split_once("\\E");
                let (text, rest) = quoted.unwrap_or((self.rest, ""));
                self.out += &regex_syntax::escape(text);
                self.rest = rest;
            }
            'A' | 'B' | 'z' if !class => {
                self.out.push('\\');
                self.out.push(c);
            }
            'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P' => {
                self.out.push('\\');
                self.out.push(c);
                // A property or code in braces: the braces are part of it.
                if self.peek() == Some('{') {
                    let Some((inside, rest)) = self.rest.split_once('}') else {
                        return Err(("invalid escape sequence", format!("\\{c}{{")));
                    };
                    let _ = write!(self.out, "{inside}}}");
                    self.rest = rest;
                }
            }
            '0'..='7' => {
                let digits: String = std::iter::once(c)
                    .chain(self.rest.chars().take_while(|c| c.is_digit(8)))
                    .take(3)
                    .collect();
                if c != '0' && digits.len() < 2 {
                    return Err(("invalid escape sequence", format!("\\{c}")));
                }
                self.rest = &self.rest[digits.len() - 1..];
                let code = u32::from_str_radix(&digits, 8).unwrap_or(0);
                let _ = write!(self.out, "\\x{{{code:x}}}");
            }
            c if c.is_ascii_punctuation() => self.literal(c),
            c => return Err(("invalid escape sequence", format!("\\{c}"))),
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// A bracket expression, of which the bracket has been read.
    fn class(&mut self) -> Result<(), Wrong> {
        let whole = format!("[{}", self.rest);
        self.out.push('[');
        if self.peek() == Some('^') {
            self.keep();
        }
        let mut first = true;
        loop {
            let Some(c) = self.next() else {
                return Err(("missing closing ]", whole));
            };
            match c {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.starts_with(':') => match self.rest.split_once(":]") {
                    Some((inside, rest)) => {
                        let _ = write!(self.out, "[{inside}:]");
                        self.rest = rest;
                    }
                    None => self.out += "\\[",
                },
                '\\' => self.escape(true)?,
                '[' | ']' | '&' | '~' => self.literal(c),
                '-' if first || self.peek() == Some(']') => self.out += "\\-",
                c => self.out.push(c),
            }
            first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Regexp;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{0661}", false),
            (r"^\w$", "ä", false),
            (r"^[\w.-]+$", "a.b-c_d", true),
            (r"^[^\s]+$", "ab", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true),
            (r"^a{2}$", "aa", true),
            (r"a{", "a{", true),
            (r"{x}", "{x}", true),
            (r"^[[]$", "[", true),
            (r"^[a&&b]$", "&", true),
            (r"^[]a]$", "]", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"\Qa.b\E", "axb", false),
            (r"(?i)ABC", "abc", true),
            (r"^\x41\x{42}\103$", "ABC", true),
            (r"^(?P<n>a)$", "a", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^a*?$", "aaa", true),
            (r"^\/\<\-$", "/<-", true),
            (r"^[+-]$", "-", true),
        ] {
            let regexp =
                Regexp::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regexp.matches(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, error) in [
            ("(", "error parsing regexp: missing closing ): `(`"),
            (")", "error parsing regexp: unexpected ): `)`"),
            ("[a", "error parsing regexp: missing closing ]: `[a`"),
            (
                "*",
                "error parsing regexp: missing argument to repetition operator: `*`",
            ),
            (
                "a**",
                "error parsing regexp: invalid nested repetition operator: `*`",
            ),
            (
                "a{1001}",
                "error parsing regexp: invalid repeat count: `{1001}`",
            ),
            (
                "(?=a)",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
            ),
            (
                "(?x)a",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?x)`",
            ),
            (
                r"\1",
                r"error parsing regexp: invalid escape sequence: `\1`",
            ),
            (
                r"\y",
                r"error parsing regexp: invalid escape sequence: `\y`",
            ),
            (
                "[z-a]",
                "error parsing regexp: invalid character class range: `z-a`",
            ),
        ] {
            assert_eq!(
                Regexp::compile(pattern).map(|_| ()),
                Err(error.to_owned()),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_small_pattern_that_is_large_when_written_out_is_refused() {
        for pattern in [
            "((a{1000}){1000}){1000}",
            r"(\pL{1000}){1000}",
            &"(".repeat(10_000),
        ] {
            assert!(Regexp::compile(pattern).is_err());
        }
    }
}
