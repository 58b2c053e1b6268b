//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.

use std::collections::BTreeSet;

use berth_api::names;
use berth_api::status::ApiError;

use super::{MAX_REQUIREMENTS, too_many_requirements};

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl Requirement {
    /// Whether labels satisfy it; `label` looks one up.
    pub(crate) fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = label(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::Greater(than) => number().is_some_and(|n| n > *than),
            Operator::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || "=!,()><".contains(c))
                .unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    tokens
}

/// Reads a selector.
///
/// # Errors
/// `BadRequest` that says what was expected where.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, ApiError> {
    let fail = |why: String| ApiError::BadRequest(format!("unable to parse requirement: {why}"));
    let tokens = tokens(text);
    let mut parser = Parser { tokens: &tokens };
    let mut requirements = Vec::new();
    if tokens.is_empty() {
        return Ok(requirements);
    }
    loop {
        if requirements.len() == MAX_REQUIREMENTS {
            return Err(too_many_requirements());
        }
        requirements.push(parser.requirement().map_err(fail)?);
        match parser.next() {
            None => return Ok(requirements),
            Some(Token::Symbol(",")) => {}
            Some(other) => {
                return Err(fail(format!(
                    "found '{}', expected: ',' or end of string",
                    show(other)
                )));
            }
        }
    }
}

fn show(token: &Token) -> &str {
    match token {
        Token::Word(word) => word,
        Token::Symbol(symbol) => symbol,
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        if self.peek() == Some(&Token::Symbol("!")) {
            self.next();
            let key = self.key()?;
            return Ok(Requirement {
                key,
                operator: Operator::Absent,
            });
        }
        let key = self.key()?;
        let operator = match self.peek() {
            None | Some(Token::Symbol(",")) => Operator::Exists,
            Some(Token::Symbol("=" | "==")) => {
                self.next();
                Operator::In(BTreeSet::from([self.value()?]))
            }
            Some(Token::Symbol("!=")) => {
                self.next();
                Operator::NotIn(BTreeSet::from([self.value()?]))
            }
            Some(Token::Symbol(">")) => {
                self.next();
                Operator::Greater(self.number()?)
            }
            Some(Token::Symbol("<")) => {
                self.next();
                Operator::Less(self.number()?)
            }
            Some(Token::Word(word)) if word == "in" => {
                self.next();
                Operator::In(self.values()?)
            }
            Some(Token::Word(word)) if word == "notin" => {
                self.next();
                Operator::NotIn(self.values()?)
            }
            Some(other) => {
                return Err(format!(
                    "found '{}', expected: '=', '!=', '==', 'in', 'notin', '>', '<'",
                    show(other)
                ));
            }
        };
        Ok(Requirement { key, operator })
    }

    fn key(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(key)) => match names::qualified_name(key).into_iter().next() {
                None => Ok(key.clone()),
                Some(complaint) => Err(format!("key: Invalid value: {key:?}: {complaint}")),
            },
            Some(other) => Err(format!("found '{}', expected: identifier", show(other))),
            None => Err("found '', expected: identifier".to_owned()),
        }
    }

    /// A value; none (`a=`) is the empty value.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Word(value)) => {
                self.next();
                match names::label_value(value).into_iter().next() {
                    None => Ok(value.clone()),
                    Some(complaint) => {
                        Err(format!("values[0]: Invalid value: {value:?}: {complaint}"))
                    }
                }
            }
            None | Some(Token::Symbol("," | ")")) => Ok(String::new()),
            Some(other) => Err(format!("found '{}', expected: identifier", show(other))),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value
            .parse()
            .map_err(|_| format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        if self.next() != Some(&Token::Symbol("(")) {
            return Err("expected: '('".to_owned());
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            match self.next() {
                Some(Token::Symbol(",")) => {}
                Some(Token::Symbol(")")) => return Ok(values),
                Some(other) => {
                    return Err(format!("found '{}', expected: ',' or ')'", show(other)));
                }
                None => return Err("found '', expected: ',' or ')'".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        parse(selector)
            .unwrap()
            .iter()
            .all(|r| r.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)))
    }

    #[test]
    fn selectors_take_what_they_say() {
        let labels = [("a", "b"), ("n", "5"), ("x.io/y", "")];
        for (selector, expected) in [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a = b , n", true),
            ("a=c", false),
            ("a!=c", true),
            ("z!=c", true),
            ("a in (b,c)", true),
            ("a in(c)", false),
            ("a notin (b)", false),
            ("z notin (b)", true),
            ("!z", true),
            ("!a", false),
            ("x.io/y=", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("a>1", false),
        ] {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn malformed_selectors_are_refused() {
        for bad in [
            "a=b=c",
            "a b",
            "=b",
            "a in b",
            "a in (b",
            "!",
            ",",
            "a,",
            "-a",
            "a=b!",
            "n>x",
            "a in (b))",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
