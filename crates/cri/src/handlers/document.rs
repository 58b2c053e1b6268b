//! A TOML file as a tree in which every value knows its file and line.
//!
//! The importers of foreign configurations read from this tree instead of deserializing, since a
//! handler has to be traceable to the line that defines it and unknown keys must not be errors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::HandlersError;

/// The file and line that something was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file; `None` for berth's built-in defaults.
    pub file: Option<Arc<Path>>,
    /// The line, counted from 1; 0 for built-in defaults.
    pub line: usize,
}

impl Origin {
    /// A file as a whole.
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            file: Some(Arc::from(path)),
            line: 1,
        }
    }

    /// Built into berth.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            file: None,
            line: 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}", file.display(), self.line),
            None => f.write_str("built in"),
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) item: Item,
}

/// The kinds of values that configurations of runtimes use.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Text(String),
    Flag(bool),
    Number(i64),
    List(Vec<Node>),
    Table(Table),
    /// A float or a date, which no key that matters here takes.
    Other,
}

impl Item {
    /// The table that it is; `None` for anything else.
    pub(crate) fn table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            Self::Text(_) | Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Other => None,
        }
    }
}

/// What a setting takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Flag,
    Number,
    Texts,
    Table,
    /// A number, or a text that stands for one.
    Amount,
}

impl Kind {
    pub(crate) fn fits(self, item: &Item) -> bool {
        match (self, item) {
            (Self::Text, Item::Text(_))
            | (Self::Flag, Item::Flag(_))
            | (Self::Number, Item::Number(_))
            | (Self::Table, Item::Table(_))
            | (Self::Amount, Item::Number(_) | Item::Text(_)) => true,
            (Self::Texts, Item::List(list)) => {
                list.iter().all(|node| matches!(node.item, Item::Text(_)))
            }
            (
                Self::Text | Self::Flag | Self::Number | Self::Texts | Self::Table | Self::Amount,
                _,
            ) => false,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Flag => "true or false",
            Self::Number => "a whole number",
            Self::Texts => "a list of texts",
            Self::Table => "a table",
            Self::Amount => "a whole number or a text",
        }
    }
}

/// A table; keys in alphabetical order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Node>,
}

/// No configuration is larger.
const LIMIT: u64 = 16 << 20;

/// Reads and parses one file.
pub(crate) fn read(path: &Path) -> Result<Table, HandlersError> {
    parse(path, &read_text(path)?)
}

/// Reads a configuration's text. A path that leads to a pipe, a device or something far too large is an error,
/// not a start that never ends.
pub(super) fn read_text(path: &Path) -> Result<String, HandlersError> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| HandlersError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || found.len() > LIMIT {
        let reason = format!("it is no file of at most {} MiB", LIMIT >> 20);
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            reason,
        )));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Parses the text of one file; `path` only names it.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Table, HandlersError> {
    let lines = Lines::new(path, text);
    let root = DeTable::parse(text).map_err(|error| HandlersError::Syntax {
        origin: lines.origin(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    Ok(lines.table(root.get_ref()))
}

struct Lines {
    file: Arc<Path>,
    starts: Vec<usize>,
}

impl Lines {
    fn new(path: &Path, text: &str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file: Arc::from(path),
            starts,
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin {
            file: Some(Arc::clone(&self.file)),
            line: self.starts.partition_point(|start| *start <= offset),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table
            .iter()
            .map(|(key, value)| {
                // A key stands where a reader looks for it; the span of a table's value may begin
                // at its header or, for dotted keys, nowhere useful.
                let origin = self.origin(key.span().start);
                let item = self.item(value);
                (key.get_ref().to_string(), Node { origin, item })
            })
            .collect();
        Table { entries }
    }

    fn item(&self, value: &Spanned<DeValue<'_>>) -> Item {
        match value.get_ref() {
            DeValue::String(text) => Item::Text(text.to_string()),
            DeValue::Boolean(flag) => Item::Flag(*flag),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i64::from_str_radix(&digits, number.radix()).map_or(Item::Other, Item::Number)
            }
            DeValue::Array(array) => Item::List(
                array
                    .iter()
                    .map(|value| Node {
                        origin: self.origin(value.span().start),
                        item: self.item(value),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Item::Table(self.table(table)),
            DeValue::Float(_) | DeValue::Datetime(_) => Item::Other,
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// The table at a path of keys; `None` when any step is missing or no table.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Table> {
        path.iter()
            .try_fold(self, |table, key| table.get(key)?.item.table())
    }

    /// Text; an empty string counts as absent, as it does in the configurations read here.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.item {
            Item::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)?.item {
            Item::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        match self.get(key)?.item {
            Item::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The texts of a list; a single text counts as a list of one.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        match self.get(key).map(|node| &node.item) {
            Some(Item::List(list)) => list
                .iter()
                .filter_map(|node| match &node.item {
                    Item::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            Some(Item::Text(text)) if !text.is_empty() => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// The settings whose values are of another kind than they have to be, with where they stand. Accessors take such a
    /// value for one that isn't there.
    pub(crate) fn mistaken(&self, kinds: &[(&str, Kind)]) -> Vec<String> {
        let wrong = kinds.iter().filter_map(|(key, kind)| {
            let node = self.get(key)?;
            (!kind.fits(&node.item))
                .then(|| format!("{key} ({}) must be {}", node.origin, kind.name()))
        });
        wrong.collect()
    }

    /// Lays `other` over this table: tables merge key by key, anything else is replaced.
    pub(crate) fn merge(&mut self, other: Table) {
        for (key, node) in other.entries {
            match (self.entries.get_mut(&key), node) {
                (
                    Some(Node {
                        item: Item::Table(mine),
                        ..
                    }),
                    Node {
                        item: Item::Table(theirs),
                        ..
                    },
                ) => mine.merge(theirs),
                (_, node) => {
                    self.entries.insert(key, node);
                }
            }
        }
    }

    /// Like [`Table::merge`], but the named table's entries are replaced whole.
    pub(crate) fn merge_replacing(&mut self, other: Table) {
        for (key, node) in other.entries {
            self.entries.insert(key, node);
        }
    }
}
