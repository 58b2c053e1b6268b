//! Printed columns of the kinds (`meta.k8s.io/v1` Table), as the stock printers have them.

use std::sync::Arc;

use serde_json::Value;

/// A column of a Table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading, e.g. `Name`; kubectl prints it in capitals.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    /// Explanation.
    pub description: String,
    /// 0 is always shown, above only in wide output.
    pub priority: i32,
}

/// Computes one row's cells from an object in its storage version, at a time.
pub type Cells = Arc<dyn Fn(&Value, jiff::Timestamp) -> Vec<Value> + Send + Sync>;

/// The columns of a kind and how a row's cells are computed.
#[derive(Clone)]
pub struct Printer {
    /// Columns.
    pub columns: Arc<[Column]>,
    /// One cell for each column.
    pub cells: Cells,
}

pub(crate) mod age;
mod rbac;
mod volume;
mod workload;

pub(crate) use self::rbac::{binding, role};
pub(crate) use self::volume::{access_modes, param_kind, param_ref, phase, storage_class, unset};
pub(crate) use self::workload::{
    containers, controller, images, labels_at, number, ratio, selector, selector_at,
};

/// What a column shows when there is nothing.
pub(crate) const NONE: &str = "<none>";

impl Printer {
    /// Columns given as name, type and priority; the one called `Name` names the object.
    pub(crate) fn new(
        columns: &[(&str, &'static str, i32)],
        cells: impl Fn(&Value, jiff::Timestamp) -> Vec<Value> + Send + Sync + 'static,
    ) -> Self {
        let columns = columns
            .iter()
            .map(|(name, kind, priority)| Column {
                name: (*name).to_owned(),
                kind,
                format: if *name == "Name" && *priority == 0 {
                    "name"
                } else {
                    ""
                },
                description: String::new(),
                priority: *priority,
            })
            .collect();
        Self {
            columns,
            cells: Arc::new(cells),
        }
    }
}

/// A text at a JSON pointer.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// A text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { NONE } else { text })
}

/// The items of a list at a JSON pointer.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The time since creation.
pub(crate) fn created_ago(object: &Value, now: jiff::Timestamp) -> Value {
    Value::from(age::since(text(object, "/metadata/creationTimestamp"), now))
}

/// How many entries a map of the object has.
pub(crate) fn size(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}

/// Columns of kinds that have none of their own.
pub(crate) fn plain() -> Printer {
    Printer::new(
        &[("Name", "string", 0), ("Age", "string", 0)],
        |object, now| vec![name(object), created_ago(object, now)],
    )
}
