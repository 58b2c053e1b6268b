//! Server-side apply, and the bookkeeping of field owners for all other writes.
//!
//! [`apply`] lays a configuration over the live object, refuses to take fields that others own
//! (unless forced) and removes what the same manager applied before and no longer names.
//! [`track`] records who changed what on every other write.

mod created;
mod managed;
mod set;
mod shape;
mod walk;

use serde_json::{Map, Value};

pub use self::created::created;
pub use self::set::{FieldPath, FieldSet};
pub use self::shape::Known;
use self::{
    managed::{Entry, Managed, unowned},
    shape::{Shape, View},
};

/// The longest name of a manager, in characters.
pub const MAX_MANAGER_LENGTH: usize = 128;

/// Bytes of the paths that one owner's conflicts are told with: a client chooses how many there are, and how long.
const MAX_CONFLICT_BYTES: usize = 64 << 10;

/// The kinds of entries in `managedFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// Who writes, and what.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager: `fieldManager`, or [`manager_of_user_agent`].
    pub manager: &'a str,
    /// The version in which the object is written, as `node.k8s.io/v1`.
    pub api_version: &'a str,
    /// The versions that there are, written so; none: any.
    pub versions: &'a [String],
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// Now, in RFC 3339 with seconds.
    pub time: &'a str,
    /// Top-level fields that this write leaves alone, such as `status` for a write of the main resource.
    pub ignored: &'a [&'a str],
}

/// Why a configuration can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that the configuration sets to other values: 409 Conflict.
    #[error("{}", conflict_message(.0))]
    Conflict(Vec<Conflict>),
    /// `metadata.managedFields` is the server's: 400 BadRequest.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsSet,
    /// A list item lacks a field of its key: 500 without a reason, as the stock server has it.
    #[error(
        "{list}: element: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
    )]
    MissingKey {
        /// The list.
        list: String,
        /// The field.
        key: String,
    },
    /// Two list items have the same key: 500 without a reason, as the stock server has it.
    #[error("{list}: duplicate entries for key {item}")]
    DuplicateItem {
        /// The list.
        list: String,
        /// The key.
        item: String,
    },
    /// A mutation names a list, map or struct that is owned as a whole: what it doesn't name would be lost.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {0}")]
    Atomic(String),
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"name" using v1 at TIME`.
    pub owner: String,
    /// The field, as `.metadata.labels.a`.
    pub field: String,
}

impl Conflict {
    /// The message of its cause (reason `FieldManagerConflict`).
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", self.owner)
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: {}: {}",
            one.message(),
            one.field
        );
    }
    let mut lines = Vec::new();
    let mut owner = None;
    for conflict in conflicts {
        if owner != Some(&conflict.owner) {
            lines.push(format!("conflicts with {}:", conflict.owner));
            owner = Some(&conflict.owner);
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// The manager that a client has by default: its User-Agent up to the first slash.
#[must_use]
pub fn manager_of_user_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    name.chars()
        .filter(|c| !c.is_control())
        .take(MAX_MANAGER_LENGTH)
        .collect()
}

/// Records in `new` who owns its fields after a write that is not an apply.
///
/// `live` is the stored object in the version of the write; none for a create. An object
/// whose owners were never recorded stays without.
pub fn track(known: Known<'_>, live: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let shape = Shape::root(known);
    let managed = if !writer.subresource.is_empty() {
        live.map(|live| Managed::read(live, writer.api_version))
            .unwrap_or_default()
    } else if Managed::is_reset(new) {
        Managed::default()
    } else {
        let given = Managed::given(new, writer.api_version);
        match live {
            Some(live) if given.0.is_empty() => Managed::read(live, writer.api_version),
            Some(_) | None => given,
        }
    };
    if live.is_some() && managed.0.is_empty() {
        strip(new);
        return;
    }
    let mut managed = managed.of_versions(writer);
    strip(new);
    let empty = Value::Object(Map::new());
    let old = live.map_or_else(|| empty.clone(), without_managed);
    update(shape, &old, new, &mut managed, writer);
    managed.write(new, writer.api_version);
}

fn update(shape: Shape<'_>, old: &Value, new: &Value, managed: &mut Managed, writer: &Writer<'_>) {
    let ignored = ignored(writer);
    let comparison = walk::compare(shape, old, new).excluding(&ignored);
    let changed = comparison.modified.clone().union(&comparison.added);
    for entry in &mut managed.0 {
        entry.fields = entry
            .fields
            .difference(&changed)
            .difference(&comparison.removed);
    }
    let own = changed.difference(&unowned());
    if !own.is_empty() {
        match managed
            .0
            .iter_mut()
            .find(|entry| entry.is_of(writer, Operation::Update))
        {
            Some(entry) => {
                entry.fields = std::mem::take(&mut entry.fields).union(&own);
                entry.time = Some(writer.time.to_owned());
            }
            None => managed.0.push(Entry::new(writer, Operation::Update, own)),
        }
    }
    managed.cap_updates();
}

/// Applies a configuration: the next object, with its owners recorded. `live` is the stored
/// object in the version of the configuration; none when the object is to be created.
///
/// # Errors
///
/// As [`ApplyError`] says; conflicts only without `force`.
pub fn apply(
    known: Known<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|v| !v.is_null())
    {
        return Err(ApplyError::ManagedFieldsSet);
    }
    let shape = Shape::root(known);
    let ignored = ignored(writer);
    let applied = walk::fields(shape, config)?
        .without_trees(&ignored)
        .difference(&unowned());
    let config = walk::remove(shape, config, &ignored);
    let Some(live) = live else {
        let mut new = config;
        Managed(vec![Entry::new(writer, Operation::Apply, applied)])
            .write(&mut new, writer.api_version);
        return Ok(new);
    };
    let mut managed = Managed::read(live, writer.api_version);
    let live = without_managed(live);
    if managed.0.is_empty() {
        let before = Writer {
            manager: "before-first-apply",
            ignored: &[],
            ..*writer
        };
        update(
            shape,
            &Value::Object(Map::new()),
            &live,
            &mut managed,
            &before,
        );
    }
    let mut managed = managed.of_versions(writer);
    let last = managed
        .0
        .iter()
        .position(|entry| entry.is_of(writer, Operation::Apply))
        .map(|at| managed.0.remove(at));

    let mut new = walk::merge(shape, &live, &config);
    if let Some(last) = &last {
        let owned = managed
            .0
            .iter()
            .fold(applied.clone(), |all, entry| all.union(&entry.fields));
        let gone = last.fields.with_parents().difference(&owned.with_parents());
        new = walk::remove(shape, &new, &gone);
    }

    let comparison = walk::compare(shape, &live, &new).excluding(&ignored);
    let changed = comparison.modified.clone().union(&comparison.added);
    let mut conflicts = Vec::new();
    for entry in &mut managed.0 {
        let taken = entry.fields.intersection(&changed);
        conflicts.extend(
            taken
                .first_paths(MAX_CONFLICT_BYTES)
                .into_iter()
                .map(|path| Conflict {
                    owner: entry.describe(),
                    field: path.to_string(),
                }),
        );
        entry.fields = entry
            .fields
            .difference(&taken)
            .difference(&comparison.removed);
    }
    if !force && !conflicts.is_empty() {
        conflicts.sort_by(|a, b| a.owner.cmp(&b.owner));
        return Err(ApplyError::Conflict(conflicts));
    }
    let mut entry = Entry::new(writer, Operation::Apply, applied);
    if let Some(last) = last.filter(|last| {
        comparison.is_same() && last.fields == entry.fields && last.api_version == entry.api_version
    }) {
        entry.time = last.time;
    }
    managed.0.push(entry);
    managed.write(&mut new, writer.api_version);
    Ok(new)
}

/// Lays a configuration over an object, and keeps no owners.
///
/// # Errors
///
/// For lists without keys, and for what is owned as a whole.
pub fn merge_configuration(
    known: Known<'_>,
    object: &Value,
    config: &Value,
) -> Result<Value, ApplyError> {
    let shape = Shape::root(known);
    walk::fields(shape, config)?;
    check_granular(shape, config, &mut String::new())?;
    Ok(walk::merge(shape, object, config))
}

fn check_granular(shape: Shape<'_>, config: &Value, path: &mut String) -> Result<(), ApplyError> {
    let length = path.len();
    match (shape.view(config), config) {
        (View::Map, Value::Object(fields)) => {
            for (name, value) in fields {
                path.push('.');
                path.push_str(name);
                check_granular(shape.field(name), value, path)?;
                path.truncate(length);
            }
        }
        (View::List, Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                check_granular(shape.item(), item, path)?;
                path.truncate(length);
            }
        }
        (_, Value::Array(_) | Value::Object(_)) => return Err(ApplyError::Atomic(path.clone())),
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {}
    }
    Ok(())
}

fn ignored(writer: &Writer<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    for name in writer.ignored {
        set.insert(&[format!("f:{name}")]);
    }
    set
}

fn strip(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

fn without_managed(object: &Value) -> Value {
    let mut object = object.clone();
    strip(&mut object);
    object
}

#[cfg(test)]
mod tests;
