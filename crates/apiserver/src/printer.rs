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
