//! `fields.txt`, parsed at the first protobuf body.

use std::{collections::HashMap, sync::OnceLock};

const TABLE: &str = include_str!("fields.txt");

/// A message: its fields by number.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: Vec<(u32, Field)>,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    pub(super) map: bool,
    /// Whether empty strings, zeros and the like are written in JSON.
    pub(super) keeps_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Integer,
    Float,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// FieldsV1, RawExtension and JSON: JSON in bytes.
    Json,
    /// A JSON schema, or a list of them.
    SchemaOrSchemas,
    /// A JSON schema, or whether anything is allowed.
    SchemaOrBool,
    /// A JSON schema, or the names of properties.
    SchemaOrStrings,
    /// A message that is a list of strings.
    Strings,
    Message(&'static str),
}

impl Field {
    pub(super) fn inline(&self) -> bool {
        self.name == "^"
    }
}

impl Message {
    pub(super) fn fields(&self) -> &[(u32, Field)] {
        &self.fields
    }

    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, field)| field)
    }
}

/// The message of that name, as `core.v1.Pod`.
pub(super) fn find(name: &str) -> Option<&'static Message> {
    messages().get(name)
}

fn messages() -> &'static HashMap<&'static str, Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(parse)
}

/// All of them.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static Message)> {
    messages().iter().map(|(name, message)| (*name, message))
}

/// The message of a kind.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if matches!(kind, "DeleteOptions" | "Status") {
        return find(&format!("meta.v1.{kind}"));
    }
    let package = match group {
        "" => "core",
        // No definition of custom resources can be in a group without a dot, or in one of these without approval.
        _ if !group.contains('.') => group,
        _ => group.strip_suffix(".k8s.io")?.split('.').next()?,
    };
    find(&format!("{package}.{version}.{kind}"))
}

fn parse() -> HashMap<&'static str, Message> {
    let mut messages = HashMap::new();
    let mut current: Option<(&str, Message)> = None;
    for line in TABLE
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        match line.strip_prefix(' ') {
            Some(field) => {
                if let (Some((_, message)), Some(field)) = (&mut current, parse_field(field)) {
                    message.fields.push(field);
                }
            }
            None => messages.extend(current.replace((line, Message::default()))),
        }
    }
    messages.extend(current);
    messages
}

fn parse_field(line: &'static str) -> Option<(u32, Field)> {
    let mut words = line.split(' ');
    let (number, name, code) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (code, required) = code
        .strip_suffix('!')
        .map_or((code, false), |code| (code, true));
    let base = code.trim_start_matches(['*', '%', '?']);
    let kind = match base {
        "s" => Kind::Text,
        "b" => Kind::Bool,
        "i" => Kind::Integer,
        "f" => Kind::Float,
        "y" => Kind::Bytes,
        "Q" => Kind::Quantity,
        "I" => Kind::IntOrString,
        "T" => Kind::Time,
        "U" => Kind::MicroTime,
        "R" | "X" => Kind::Json,
        "E" => Kind::Strings,
        "A" => Kind::SchemaOrSchemas,
        "B" => Kind::SchemaOrBool,
        "D" => Kind::SchemaOrStrings,
        message => Kind::Message(message),
    };
    let field = Field {
        name,
        kind,
        repeated: code.starts_with('*'),
        map: code.starts_with('%'),
        keeps_zero: required || code.starts_with('?'),
    };
    Some((number, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses_and_every_message_is_there() {
        let lines = TABLE.lines().filter(|l| l.starts_with(' ')).count();
        let messages = parse();
        assert_eq!(
            messages.values().map(|m| m.fields.len()).sum::<usize>(),
            lines
        );
        let mut missing: Vec<_> = messages
            .values()
            .flat_map(|m| &m.fields)
            .filter_map(|(_, field)| match field.kind {
                Kind::Message(name) if !messages.contains_key(name) => Some(name),
                _ => None,
            })
            .collect();
        missing.dedup();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
