//! Source to tokens.

use std::sync::Arc;

use crate::ast::Location;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(Arc<str>),
    /// A run of digits, decimal or `0x`, without sign; the parser knows whether one stood before.
    Int(String),
    Uint(String),
    Double(String),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// An operator, a bracket or a keyword (`true`, `false`, `null`, `in`).
    Symbol(&'static str),
    End,
}

impl Token {
    /// The token as messages name it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ident(name) => name.to_string(),
            Self::Int(digits) | Self::Double(digits) => digits.clone(),
            Self::Uint(digits) => format!("{digits}u"),
            Self::String(text) => format!("{text:?}"),
            Self::Bytes(_) => "b\"...\"".to_owned(),
            Self::Symbol(symbol) => (*symbol).to_owned(),
            Self::End => "<EOF>".to_owned(),
        }
    }
}

pub(crate) type Spanned = (Token, Location);

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{",
    "}", "+", "-", "*", "/", "%",
];
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];

struct Lexer<'s> {
    rest: &'s str,
    at: Location,
}

/// All tokens of a source, with an [`Token::End`] last; or where it can't be read, and why.
pub(crate) fn tokens(source: &str) -> Result<Vec<Spanned>, (Location, String)> {
    let mut lexer = Lexer {
        rest: source,
        at: Location { line: 1, column: 0 },
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.token().map_err(|message| (at, message))?;
        let end = token == Token::End;
        tokens.push((token, at));
        if end {
            return Ok(tokens);
        }
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at = Location {
                line: self.at.line + 1,
                column: 0,
            };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some('\t' | ' ' | '\r' | '\n' | '\u{c}') => {
                    self.bump();
                }
                Some('/') if self.rest.starts_with("//") => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                _ => return,
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek().filter(|c| wanted(*c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(first) = self.peek() else {
            return Ok(Token::End);
        };
        if let Some((raw, bytes, skip)) = string_prefix(self.rest) {
            self.skip(skip);
            return self.string(raw, bytes);
        }
        if first.is_ascii_digit()
            || (first == '.' && self.rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            return Ok(self.number());
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(match KEYWORDS.iter().find(|keyword| **keyword == word) {
                Some(keyword) => Token::Symbol(keyword),
                None => Token::Ident(word.into()),
            });
        }
        match SYMBOLS
            .iter()
            .find(|symbol| self.rest.starts_with(**symbol))
        {
            Some(symbol) => {
                self.skip(symbol.len());
                Ok(Token::Symbol(symbol))
            }
            None => Err(format!(
                "Syntax error: token recognition error at: '{first}'"
            )),
        }
    }

    fn number(&mut self) -> Token {
        if self.rest.starts_with("0x")
            && self.rest[2..].starts_with(|c: char| c.is_ascii_hexdigit())
        {
            self.skip(2);
            let digits = format!("0x{}", self.take_while(|c| c.is_ascii_hexdigit()));
            return self.integer(digits);
        }
        let mut text = self.take_while(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek() == Some('.') && self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            self.bump();
            text.push('.');
            text += &self.take_while(|c| c.is_ascii_digit());
            double = true;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let exponent = self.rest[1..].trim_start_matches(['+', '-']);
            let signs = self.rest.len() - 1 - exponent.len();
            if signs <= 1 && exponent.starts_with(|c: char| c.is_ascii_digit()) {
                text.push('e');
                self.bump();
                if signs == 1 {
                    text.extend(self.bump());
                }
                text += &self.take_while(|c| c.is_ascii_digit());
                double = true;
            }
        }
        if double {
            Token::Double(text)
        } else {
            self.integer(text)
        }
    }

    fn integer(&mut self, digits: String) -> Token {
        if matches!(self.peek(), Some('u' | 'U')) {
            self.bump();
            return Token::Uint(digits);
        }
        Token::Int(digits)
    }

    /// The quotes and what is between them; the prefix has been read.
    fn string(&mut self, raw: bool, bytes: bool) -> Result<Token, String> {
        let opening = self.rest;
        let quote = if self.rest.starts_with('"') {
            '"'
        } else {
            '\''
        };
        let triple = self
            .rest
            .starts_with(if quote == '"' { "\"\"\"" } else { "'''" });
        self.skip(if triple { 3 } else { 1 });
        let unfinished = || {
            let text: String = opening
                .chars()
                .take_while(|c| *c != '\n')
                .take(60)
                .collect();
            format!("Syntax error: token recognition error at: '{text}'")
        };
        let mut content: Vec<u8> = Vec::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(unfinished());
            };
            if c == quote {
                let end = if quote == '"' { "\"\"\"" } else { "'''" };
                if !triple || self.rest.starts_with(end) {
                    self.skip(if triple { 3 } else { 1 });
                    break;
                }
            }
            if !triple && (c == '\n' || c == '\r') {
                return Err(unfinished());
            }
            self.bump();
            if c != '\\' || raw {
                push(&mut content, c);
                continue;
            }
            match self.escape(bytes)? {
                Escaped::Character(c) => push(&mut content, c),
                Escaped::Byte(byte) => content.push(byte),
            }
        }
        if bytes {
            return Ok(Token::Bytes(content.into()));
        }
        String::from_utf8(content)
            .map(|text| Token::String(text.into()))
            .map_err(|_| "invalid UTF-8 in string".to_owned())
    }

    fn escape(&mut self, bytes: bool) -> Result<Escaped, String> {
        let Some(c) = self.bump() else {
            return Err("unable to unescape string, found '\\' as last character".to_owned());
        };
        let plain = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => c,
            'x' | 'X' => return self.code(2, 16, String::new(), bytes),
            'u' if !bytes => return self.code(4, 16, String::new(), false),
            'U' if !bytes => return self.code(8, 16, String::new(), false),
            '0'..='3' => return self.code(2, 8, c.to_string(), bytes),
            _ => return Err("unable to unescape string".to_owned()),
        };
        Ok(Escaped::Character(plain))
    }

    fn code(
        &mut self,
        count: usize,
        radix: u32,
        mut digits: String,
        bytes: bool,
    ) -> Result<Escaped, String> {
        for _ in 0..count {
            digits.extend(self.peek().filter(|c| c.is_digit(radix)));
            self.bump();
        }
        let wrong = || "unable to unescape string".to_owned();
        let missing = digits.len() < if radix == 8 { count + 1 } else { count };
        let code = u32::from_str_radix(&digits, radix)
            .ok()
            .filter(|_| !missing)
            .ok_or_else(wrong)?;
        if bytes {
            return u8::try_from(code).map(Escaped::Byte).map_err(|_| wrong());
        }
        char::from_u32(code)
            .map(Escaped::Character)
            .ok_or_else(|| "invalid unicode code point".to_owned())
    }
}

fn push(content: &mut Vec<u8>, c: char) {
    content.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

enum Escaped {
    Character(char),
    /// In a bytes literal an octal or hexadecimal escape is a byte, not a code point.
    Byte(u8),
}

/// Whether a string literal begins here: raw, bytes, and how many characters stand before the quote.
fn string_prefix(rest: &str) -> Option<(bool, bool, usize)> {
    let mut raw = false;
    let mut bytes = false;
    for (skip, c) in rest.chars().take(3).enumerate() {
        match c {
            '"' | '\'' => return Some((raw, bytes, skip)),
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes && !raw => bytes = true,
            _ => return None,
        }
    }
    None
}
