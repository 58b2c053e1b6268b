//! Tokens to a tree. Depth and size are bounded here, so that what walks the tree may recurse.

use std::sync::Arc;

use crate::ast::{Element, Entry, Expr, Field, Kind, Literal, Location, Message, Select};
use crate::builder::{Builder, Fallible};
use crate::escape::RESERVED;
use crate::lexer::{Spanned, Token, tokens};
use crate::macros::expand;
use crate::source::CompileError;

/// The longest expression, in code points (cel-go's default).
pub(crate) const MAX_CODE_POINTS: usize = 100_000;
/// How deep expressions nest, and how long a chain of operators of one precedence or of selections is (cel-go: 250).
pub(crate) const MAX_DEPTH: u32 = 250;

/// A syntax tree, with the place of each node.
#[derive(Debug)]
pub(crate) struct Ast {
    pub(crate) root: Expr,
    pub(crate) locations: Vec<Location>,
}

struct Parser {
    tokens: Vec<Spanned>,
    position: usize,
    depth: u32,
    nodes: Builder,
}

pub(crate) fn parse(source: &str) -> Result<Ast, CompileError> {
    let fail = |(at, message): (Location, String)| {
        let mut errors = CompileError::new(source);
        errors.report(at, message);
        errors
    };
    let size = source.chars().count();
    if size > MAX_CODE_POINTS {
        let message = format!(
            "expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}"
        );
        let mut errors = CompileError::new("");
        errors.report(Location { line: 1, column: 0 }, message);
        return Err(errors);
    }
    let tokens = tokens(source).map_err(fail)?;
    let mut parser = Parser {
        tokens,
        position: 0,
        depth: 0,
        nodes: Builder::default(),
    };
    let root = parser.expression().map_err(fail)?;
    if *parser.peek() != Token::End {
        return Err(fail(parser.mismatch("<EOF>")));
    }
    Ok(Ast {
        root,
        locations: parser.nodes.locations,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.position)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn at(&self) -> Location {
        self.tokens
            .get(self.position)
            .or(self.tokens.last())
            .map_or(Location::default(), |(_, at)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take_if(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.position += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Fallible<()> {
        if self.take_if(symbol) {
            Ok(())
        } else {
            Err(self.mismatch(&format!("'{symbol}'")))
        }
    }

    fn mismatch(&self, expected: &str) -> (Location, String) {
        (
            self.at(),
            format!(
                "Syntax error: mismatched input '{}' expecting {expected}",
                self.peek().text()
            ),
        )
    }

    /// What walks the tree recurses: no tree is built much higher than this.
    fn check_height(&self) -> Fallible<()> {
        if self.nodes.tallest > MAX_DEPTH {
            Err(self.too_deep())
        } else {
            Ok(())
        }
    }

    fn too_deep(&self) -> (Location, String) {
        (
            self.at(),
            format!("expression recursion limit exceeded: {MAX_DEPTH}"),
        )
    }

    fn expression(&mut self) -> Fallible<Expr> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = self.conditional();
        self.depth -= 1;
        self.check_height()?;
        result
    }

    fn conditional(&mut self) -> Fallible<Expr> {
        let condition = self.binary(0)?;
        let at = self.at();
        if !self.take_if("?") {
            return Ok(condition);
        }
        let truthy = self.binary(0)?;
        self.expect(":")?;
        let falsy = self.expression()?;
        Ok(self
            .nodes
            .node(at, Kind::Conditional(Box::new([condition, truthy, falsy]))))
    }

    /// Operators that bind at least as tight as the given precedence: 0 for `||` up to 4 for products.
    fn binary(&mut self, minimum: usize) -> Fallible<Expr> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = self.operators(minimum);
        self.depth -= 1;
        result
    }

    fn operators(&mut self, minimum: usize) -> Fallible<Expr> {
        let mut left = self.unary()?;
        // Terms of `&&` and `||` that this loop joined: those that stand side by side become one node, so that hundreds
        // of clauses are no depth.
        let mut joined = None;
        while let Some((symbol, precedence)) = self.operator(minimum) {
            let at = self.at();
            self.position += 1;
            let right = self.binary(precedence + 1)?;
            left = self.combine(at, symbol, joined == Some(symbol), left, right);
            joined = Some(symbol);
            self.check_height()?;
        }
        Ok(left)
    }

    /// The operator that is next, when it binds at least as tight.
    fn operator(&self, minimum: usize) -> Option<(&'static str, usize)> {
        const LEVELS: [&[&str]; 5] = [
            &["||"],
            &["&&"],
            &["<", "<=", ">=", ">", "==", "!=", "in"],
            &["+", "-"],
            &["*", "/", "%"],
        ];
        let Token::Symbol(symbol) = *self.peek() else {
            return None;
        };
        let precedence = LEVELS.iter().position(|level| level.contains(&symbol))?;
        (precedence >= minimum).then_some((symbol, precedence))
    }

    fn combine(
        &mut self,
        at: Location,
        symbol: &str,
        continued: bool,
        left: Expr,
        right: Expr,
    ) -> Expr {
        match (symbol, left) {
            (
                "||",
                Expr {
                    id,
                    kind: Kind::Or(terms),
                },
            ) if continued => self.nodes.joined(id, terms, right, Kind::Or),
            (
                "&&",
                Expr {
                    id,
                    kind: Kind::And(terms),
                },
            ) if continued => self.nodes.joined(id, terms, right, Kind::And),
            ("||", left) => self.nodes.node(at, Kind::Or(vec![left, right])),
            ("&&", left) => self.nodes.node(at, Kind::And(vec![left, right])),
            (symbol, left) => self
                .nodes
                .call(at, binary_function(symbol), None, vec![left, right]),
        }
    }

    fn unary(&mut self) -> Fallible<Expr> {
        let at = self.at();
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0_usize;
            // A minus right before a number is part of the number.
            while self.is(symbol) && !(symbol == "-" && self.number_follows()) {
                self.position += 1;
                count += 1;
            }
            if count > 0 {
                let operand = self.member()?;
                // Pairs cancel each other.
                return Ok(if count.is_multiple_of(2) {
                    operand
                } else {
                    self.nodes.call(at, function, None, vec![operand])
                });
            }
        }
        self.member()
    }

    fn number_follows(&self) -> bool {
        matches!(
            self.tokens.get(self.position + 1),
            Some((Token::Int(_) | Token::Double(_), _))
        )
    }

    fn member(&mut self) -> Fallible<Expr> {
        let mut expr = self.primary()?;
        loop {
            self.check_height()?;
            let at = self.at();
            if self.take_if(".") {
                expr = self.selected(at, expr)?;
            } else if self.take_if("[") {
                expr = self.indexed(at, expr)?;
            } else if self.is("{") {
                let Some(name) = qualified_name(&expr) else {
                    return Ok(expr);
                };
                self.position += 1;
                expr = self.message(at, &name)?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// What follows a dot: a field, or a method with its arguments.
    fn selected(&mut self, at: Location, operand: Expr) -> Fallible<Expr> {
        let optional = self.take_if("?");
        let name_at = self.at();
        let Token::Ident(field) = self.take() else {
            self.position -= 1;
            return Err(self.mismatch("IDENTIFIER"));
        };
        let open = self.at();
        if !optional && self.take_if("(") {
            let args = self.arguments(")")?;
            return expand(&mut self.nodes, open, name_at, Some(operand), &field, args);
        }
        Ok(self.nodes.node(
            at,
            Kind::Select(Box::new(Select {
                operand,
                field,
                optional,
            })),
        ))
    }

    fn indexed(&mut self, at: Location, operand: Expr) -> Fallible<Expr> {
        let optional = self.take_if("?");
        let index = self.expression()?;
        self.expect("]")?;
        Ok(self.nodes.call(
            at,
            if optional { "_[?_]" } else { "_[_]" },
            None,
            vec![operand, index],
        ))
    }

    /// Expressions, separated by commas, up to and with the closing symbol.
    fn arguments(&mut self, close: &str) -> Fallible<Vec<Expr>> {
        let mut args = Vec::new();
        if self.take_if(close) {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.take_if(close) {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    // What recurses is kept apart from what has many temporary values: frames of an unoptimized build have a place for
    // each of them.
    fn primary(&mut self) -> Fallible<Expr> {
        let at = self.at();
        if self.take_if("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take_if("[") {
            return self.list(at);
        }
        if self.take_if("{") {
            return self.map(at);
        }
        match self.name()? {
            Some(name) => self.named(at, &name),
            None => self.literal(at),
        }
    }

    /// A name, with the dot that may be before it; None when no name is here.
    fn name(&mut self) -> Fallible<Option<String>> {
        let dotted = self.take_if(".");
        match self.take() {
            Token::Ident(name) if dotted => Ok(Some(format!(".{name}"))),
            Token::Ident(name) => Ok(Some(name.to_string())),
            _ => {
                self.position -= 1;
                if dotted {
                    Err(self.mismatch("IDENTIFIER"))
                } else {
                    Ok(None)
                }
            }
        }
    }

    fn literal(&mut self, at: Location) -> Fallible<Expr> {
        let literal = match self.take() {
            Token::Symbol("-") => self.negative(),
            Token::Symbol("true") => Ok(Literal::Bool(true)),
            Token::Symbol("false") => Ok(Literal::Bool(false)),
            Token::Symbol("null") => Ok(Literal::Null),
            Token::Int(digits) => integer(&digits).map(Literal::Int),
            Token::Uint(digits) => unsigned(&digits)
                .map(Literal::Uint)
                .ok_or_else(|| "invalid uint literal".to_owned()),
            Token::Double(digits) => double(&digits),
            Token::String(text) => Ok(Literal::String(text)),
            Token::Bytes(bytes) => Ok(Literal::Bytes(bytes)),
            Token::Ident(_) | Token::Symbol(_) | Token::End => {
                self.position -= 1;
                return Err(self.mismatch("an expression"));
            }
        };
        match literal {
            Ok(literal) => Ok(self.nodes.node(at, Kind::Literal(literal))),
            Err(message) => Err((at, message)),
        }
    }

    /// The number behind a minus.
    fn negative(&mut self) -> Result<Literal, String> {
        match self.take() {
            Token::Int(digits) => integer(&format!("-{digits}")).map(Literal::Int),
            Token::Double(digits) => double(&format!("-{digits}")),
            other => Err(format!(
                "Syntax error: mismatched input '{}' expecting a number",
                other.text()
            )),
        }
    }

    fn named(&mut self, at: Location, name: &str) -> Fallible<Expr> {
        let open = self.at();
        if RESERVED.contains(&name.trim_start_matches('.')) {
            return Err((
                at,
                format!("reserved identifier: {}", name.trim_start_matches('.')),
            ));
        }
        if self.take_if("(") {
            let args = self.arguments(")")?;
            return expand(&mut self.nodes, open, at, None, name, args);
        }
        Ok(self.nodes.node(at, Kind::Ident(name.into())))
    }

    fn list(&mut self, at: Location) -> Fallible<Expr> {
        let mut elements = Vec::new();
        while !self.take_if("]") {
            let optional = self.take_if("?");
            elements.push(Element {
                optional,
                value: self.expression()?,
            });
            if !self.take_if(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(self.nodes.node(at, Kind::List(elements)))
    }

    fn map(&mut self, at: Location) -> Fallible<Expr> {
        let mut entries = Vec::new();
        while !self.take_if("}") {
            let optional = self.take_if("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry {
                optional,
                key,
                value: self.expression()?,
            });
            if !self.take_if(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.nodes.node(at, Kind::Map(entries)))
    }

    fn message(&mut self, at: Location, name: &str) -> Fallible<Expr> {
        let mut fields = Vec::new();
        while !self.take_if("}") {
            let optional = self.take_if("?");
            let field_at = self.at();
            let Token::Ident(field) = self.take() else {
                self.position -= 1;
                return Err(self.mismatch("IDENTIFIER"));
            };
            // The node's only use is its place and number.
            let id = self.nodes.node(field_at, Kind::Literal(Literal::Null)).id;
            self.expect(":")?;
            fields.push(Field {
                id,
                name: field,
                optional,
                value: self.expression()?,
            });
            if !self.take_if(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.nodes.node(
            at,
            Kind::Message(Box::new(Message {
                name: name.into(),
                fields,
            })),
        ))
    }
}

fn binary_function(symbol: &str) -> &'static str {
    match symbol {
        "<" => "_<_",
        "<=" => "_<=_",
        ">" => "_>_",
        ">=" => "_>=_",
        "==" => "_==_",
        "!=" => "_!=_",
        "in" => "@in",
        "+" => "_+_",
        "-" => "_-_",
        "*" => "_*_",
        "/" => "_/_",
        _ => "_%_",
    }
}

fn double(text: &str) -> Result<Literal, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number
        .map(Literal::Double)
        .ok_or_else(|| "invalid double literal".to_owned())
}

fn integer(text: &str) -> Result<i64, String> {
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text), |digits| ("-", digits));
    let parsed = match digits.strip_prefix("0x") {
        Some(hexadecimal) => i64::from_str_radix(&format!("{sign}{hexadecimal}"), 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "invalid int literal".to_owned())
}

fn unsigned(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `a.b.c` of names only.
pub(crate) fn qualified_name(expr: &Expr) -> Option<Arc<str>> {
    let mut parts = Vec::new();
    let mut expr = expr;
    loop {
        match &expr.kind {
            Kind::Ident(name) => {
                parts.push(name.clone());
                parts.reverse();
                return Some(parts.join(".").into());
            }
            Kind::Select(select) if !select.optional => {
                parts.push(select.field.clone());
                expr = &select.operand;
            }
            _ => return None,
        }
    }
}
