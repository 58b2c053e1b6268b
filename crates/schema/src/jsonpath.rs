//! JSONPath as kubectl and definitions have it: `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::{Number, Value as Json};

/// How many values a path looks at.
const MAX_VISITED: usize = 100_000;
/// How long a path is, and how deep its filters nest.
const MAX_LENGTH: usize = 2_000;

/// A path that can't be read: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at character {at}")]
pub struct BadPath {
    what: String,
    at: usize,
}

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    All,
    Descend,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Union(Vec<Step>),
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Json),
}

impl JsonPath {
    /// Reads a path that begins with a dot or bracket; braces around it, as kubectl has them, are taken off.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let inside = text
            .trim()
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text.trim());
        let characters: Vec<char> = inside.chars().collect();
        let mut parser = Parser {
            characters: &characters,
            at: 0,
        };
        if characters.len() > MAX_LENGTH {
            return Err(parser.wrong("path too long"));
        }
        if parser.peek() == Some('$') {
            parser.at += 1;
        }
        let steps = parser.steps(false)?;
        if parser.at < characters.len() {
            return Err(parser.wrong("unexpected character"));
        }
        Ok(Self { steps })
    }

    /// The first value that the path leads to.
    #[must_use]
    pub fn first<'v>(&self, value: &'v Json) -> Option<&'v Json> {
        let mut left = MAX_VISITED;
        follow(&self.steps, vec![value], &mut left)
            .into_iter()
            .next()
    }

    /// All values that the path leads to, in order.
    #[must_use]
    pub fn all<'v>(&self, value: &'v Json) -> Vec<&'v Json> {
        let mut left = MAX_VISITED;
        follow(&self.steps, vec![value], &mut left)
    }
}

struct Parser<'c> {
    characters: &'c [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> BadPath {
        BadPath {
            what: what.to_owned(),
            at: self.at,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), BadPath> {
        self.blanks();
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.wrong(&format!("expected {wanted:?}")))
    }

    fn blanks(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    /// Steps up to the end, or in a filter up to what can't be one.
    fn steps(&mut self, filter: bool) -> Result<Vec<Step>, BadPath> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    if self.peek() == Some('.') {
                        self.at += 1;
                        steps.push(Step::Descend);
                    }
                    match self.peek() {
                        Some('*') => {
                            self.at += 1;
                            steps.push(Step::All);
                        }
                        Some('[') => {}
                        None => return Ok(steps),
                        Some(_) => steps.push(Step::Field(self.name(filter)?)),
                    }
                }
                Some('[') => {
                    self.at += 1;
                    steps.push(self.bracket(filter)?);
                }
                _ => return Ok(steps),
            }
        }
    }

    /// A name, in which a backslash takes the next character as it is.
    fn name(&mut self, filter: bool) -> Result<String, BadPath> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.push(self.peek().ok_or_else(|| self.wrong("unfinished escape"))?);
                }
                '.' | '[' | ']' => break,
                ' ' | ')' | '=' | '!' | '<' | '>' | ',' if filter => break,
                c => name.push(c),
            }
            self.at += 1;
        }
        if name.is_empty() {
            Err(self.wrong("expected a name"))
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self, inside: bool) -> Result<Step, BadPath> {
        let mut parts = Vec::new();
        loop {
            self.blanks();
            parts.push(match self.peek() {
                Some('*') => {
                    self.at += 1;
                    Step::All
                }
                Some('?') if inside => return Err(self.wrong("filters don't nest")),
                Some('?') => self.filter()?,
                Some('\'' | '"') => Step::Field(self.quoted()?),
                Some(c) if c.is_ascii_digit() || matches!(c, '-' | ':') => self.slice()?,
                _ => return Err(self.wrong("invalid array index")),
            });
            self.blanks();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(']') => {
                    self.at += 1;
                    return Ok(match parts.len() {
                        1 => parts.remove(0),
                        _ => Step::Union(parts),
                    });
                }
                _ => return Err(self.wrong("unterminated array")),
            }
        }
    }

    fn quoted(&mut self) -> Result<String, BadPath> {
        let quote = self.peek();
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                c if Some(c) == quote => return Ok(text),
                '\\' => {
                    text.push(self.peek().ok_or_else(|| self.wrong("unfinished escape"))?);
                    self.at += 1;
                }
                c => text.push(c),
            }
        }
        Err(self.wrong("unterminated quoted string"))
    }

    fn integer(&mut self) -> Option<i64> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.characters.get(start..self.at)?.iter().collect();
        text.parse().ok()
    }

    fn slice(&mut self) -> Result<Step, BadPath> {
        let from = self.integer();
        if self.peek() != Some(':') {
            let index = from.ok_or_else(|| self.wrong("invalid array index"))?;
            // One element: up to the next one, which for the last is the end.
            return Ok(Step::Slice {
                from,
                to: index.checked_add(1).filter(|to| *to != 0),
                step: 1,
            });
        }
        self.at += 1;
        let to = self.integer();
        let mut step = 1;
        if self.peek() == Some(':') {
            self.at += 1;
            step = self.integer().unwrap_or(1);
        }
        if step < 1 {
            Err(self.wrong("step must be > 0"))
        } else {
            Ok(Step::Slice { from, to, step })
        }
    }

    fn filter(&mut self) -> Result<Step, BadPath> {
        self.at += 1;
        self.expect('(')?;
        let left = self.operand()?;
        self.blanks();
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let rest: String = self.characters.iter().skip(self.at).take(2).collect();
        let right = match operators.iter().find(|(text, _)| rest.starts_with(text)) {
            Some((text, compare)) => {
                self.at += text.len();
                Some((*compare, self.operand()?))
            }
            None => None,
        };
        self.expect(')')?;
        Ok(Step::Filter(left, right))
    }

    fn operand(&mut self) -> Result<Operand, BadPath> {
        self.blanks();
        match self.peek() {
            Some('@') => {
                self.at += 1;
                Ok(Operand::Path(self.steps(true)?))
            }
            Some('\'' | '"') => Ok(Operand::Value(Json::String(self.quoted()?))),
            Some(_) => {
                let start = self.at;
                while self
                    .peek()
                    .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))
                {
                    self.at += 1;
                }
                let text: String = self
                    .characters
                    .get(start..self.at)
                    .unwrap_or_default()
                    .iter()
                    .collect();
                let number = || text.parse::<Number>().ok().map(Json::Number);
                let value = match text.as_str() {
                    "true" => Some(Json::Bool(true)),
                    "false" => Some(Json::Bool(false)),
                    "null" | "nil" => Some(Json::Null),
                    _ => number(),
                };
                value
                    .map(Operand::Value)
                    .ok_or_else(|| self.wrong("unrecognized operand"))
            }
            None => Err(self.wrong("unterminated filter")),
        }
    }
}

fn follow<'v>(steps: &[Step], mut values: Vec<&'v Json>, left: &mut usize) -> Vec<&'v Json> {
    for step in steps {
        let mut next = Vec::new();
        for value in values {
            apply(step, value, &mut next, left);
        }
        values = next;
    }
    values
}

/// Takes a visit; false when there have been too many.
fn visit(left: &mut usize) -> bool {
    match left.checked_sub(1) {
        Some(less) => {
            *left = less;
            true
        }
        None => false,
    }
}

fn apply<'v>(step: &Step, value: &'v Json, next: &mut Vec<&'v Json>, left: &mut usize) {
    match step {
        Step::Field(name) => {
            if visit(left) {
                next.extend(value.get(name));
            }
        }
        Step::All => {
            for child in children(value) {
                if visit(left) {
                    next.push(child);
                }
            }
        }
        Step::Descend => {
            let mut open = vec![value];
            while let Some(value) = open.pop() {
                if !visit(left) {
                    return;
                }
                next.push(value);
                let from = open.len();
                open.extend(children(value));
                // The first child is looked at first.
                open.get_mut(from..).unwrap_or_default().reverse();
            }
        }
        Step::Slice { from, to, step } => {
            let Some(list) = value.as_array() else { return };
            let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
            let position = |index: i64| {
                if index < 0 {
                    index.saturating_add(length)
                } else {
                    index
                }
            };
            let begin = position(from.unwrap_or(0)).max(0);
            let end = position(to.unwrap_or(length)).min(length);
            let step = usize::try_from(*step).unwrap_or(1).max(1);
            for index in (begin..end).step_by(step) {
                if visit(left) {
                    next.extend(
                        usize::try_from(index)
                            .ok()
                            .and_then(|index| list.get(index)),
                    );
                }
            }
        }
        Step::Union(parts) => parts.iter().for_each(|part| apply(part, value, next, left)),
        Step::Filter(operand, comparison) => {
            for child in children(value) {
                if !visit(left) {
                    return;
                }
                let found = evaluate(operand, child, left);
                let holds = match comparison {
                    None => found.is_some(),
                    Some((compare, other)) => match (found, evaluate(other, child, left)) {
                        (Some(a), Some(b)) => compare.holds(&a, &b),
                        _ => false,
                    },
                };
                if holds {
                    next.push(child);
                }
            }
        }
    }
}

fn children(value: &Json) -> Box<dyn Iterator<Item = &Json> + '_> {
    match value {
        Json::Array(list) => Box::new(list.iter()),
        Json::Object(map) => Box::new(map.values()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            Box::new(std::iter::empty())
        }
    }
}

fn evaluate(operand: &Operand, value: &Json, left: &mut usize) -> Option<Json> {
    match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Path(steps) => follow(steps, vec![value], left)
            .first()
            .map(|found| (*found).clone()),
    }
}

impl Compare {
    fn holds(self, a: &Json, b: &Json) -> bool {
        let order = match (a, b) {
            (Json::Number(a), Json::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
            (Json::Bool(a), Json::Bool(b)) => Some(a.cmp(b)),
            _ => {
                return if self == Self::NotEqual {
                    a != b
                } else {
                    self == Self::Equal && a == b
                };
            }
        };
        let Some(order) = order else { return false };
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::JsonPath;

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let object = json!({
            "metadata": {"name": "w", "annotations": {"a.b/c": "x"}},
            "spec": {"list": [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}]},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".metadata.name", json!(["w"])),
            ("{.metadata.name}", json!(["w"])),
            ("$.metadata.name", json!(["w"])),
            (r".metadata.annotations.a\.b/c", json!(["x"])),
            (".metadata.annotations['a.b/c']", json!(["x"])),
            (".spec.list[0].name", json!(["a"])),
            (".spec.list[-1].name", json!(["c"])),
            (".spec.list[*].name", json!(["a", "b", "c"])),
            (".spec.list[1:].n", json!([2, 3])),
            (".spec.list[0:3:2].n", json!([1, 3])),
            (".spec.list[0,2].n", json!([1, 3])),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                json!(["True"]),
            ),
            (
                ".status.conditions[?( @.type == 'Ready' )].status",
                json!(["True"]),
            ),
            (
                ".status.conditions[?(@.type!='Ready')].status",
                json!(["False"]),
            ),
            (".spec.list[?(@.n>=2)].name", json!(["b", "c"])),
            (".spec.list[?(@.missing)].name", json!([])),
            (".spec.list[?(@.name)].n", json!([1, 2, 3])),
            ("..n", json!([1, 2, 3])),
            (".spec.nothing.here", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(json!(parsed.all(&object)), expected, "{path}");
        }
        for wrong in [
            ".a[",
            ".a[?(@.b==)]",
            ".a['x]",
            "a",
            ".a[?(@.b=='c']",
            ".a[x]",
            ".a[0:1:-1]",
        ] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_does_not_look_at_everything_again_and_again() {
        let deep = json!({"a": vec![json!({"a": vec![1; 200]}); 200]});
        let path = JsonPath::parse(&format!(".a{}", "..*".repeat(20))).unwrap();
        assert!(path.all(&deep).len() <= super::MAX_VISITED);
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_none(text in "(\\.|\\[|\\]|\\?|\\(|\\)|@|=|'|\"|\\*|:|,|-|[a-c0-9]|\\\\| ){0,20}") {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.all(&json!({"a": [{"b": 1}, [2, {"c": "x"}]]}));
            }
        }
    }
}
