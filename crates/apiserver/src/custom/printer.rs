//! `additionalPrinterColumns`: what their JSON paths lead to.

use std::sync::Arc;

use berth_schema::JsonPath;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

use crate::printer::{self, Column, Printer, age};

/// The printer of these columns, after the name; without any, name and age.
pub(super) fn of(columns: &[CustomResourceColumnDefinition]) -> Printer {
    if columns.is_empty() {
        return printer::plain();
    }
    let mut shown = vec![Column {
        name: "Name".to_owned(),
        kind: "string",
        format: "name",
        description: String::new(),
        priority: 0,
    }];
    let mut paths = Vec::new();
    for column in columns {
        let kind = match column.type_.as_str() {
            "integer" => "integer",
            "number" => "number",
            "boolean" => "boolean",
            "date" => "date",
            _ => "string",
        };
        shown.push(Column {
            name: column.name.clone(),
            kind,
            format: "",
            description: column.description.clone().unwrap_or_default(),
            priority: column.priority.unwrap_or(0),
        });
        // One that can't be read stays empty.
        paths.push((kind, JsonPath::parse(&column.json_path).ok()));
    }
    Printer {
        columns: shown.into(),
        cells: Arc::new(move |object, now| {
            let mut cells = vec![object["metadata"]["name"].clone()];
            for (kind, path) in &paths {
                let value = path.as_ref().and_then(|path| path.first(object));
                cells.push(cell(kind, value.unwrap_or(&Value::Null), now));
            }
            cells
        }),
    }
}

/// A cell, as the stock server shows a value in a column of this type.
fn cell(kind: &str, value: &Value, now: jiff::Timestamp) -> Value {
    match (kind, value) {
        ("date", Value::String(at)) => Value::String(age::since(at, now)),
        ("date", _) => Value::Null,
        ("string", Value::String(_) | Value::Null) => value.clone(),
        ("string", other) => Value::String(other.to_string()),
        ("integer", Value::Number(number)) if !number.is_i64() => {
            // Without its fraction.
            let whole = number
                .as_f64()
                .map(|number| format!("{:.0}", number.trunc()));
            whole
                .and_then(|text| text.parse::<i64>().ok())
                .map_or(Value::Null, Value::from)
        }
        ("integer" | "number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::cell;
    use serde_json::{Value, json};

    #[test]
    fn cells_are_of_their_columns_type() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for (kind, value, expected) in [
            ("string", json!("a"), json!("a")),
            ("string", json!({"a": 1}), json!("{\"a\":1}")),
            ("string", json!(true), json!("true")),
            ("integer", json!(3), json!(3)),
            ("integer", json!(3.7), json!(3)),
            ("integer", json!("3"), Value::Null),
            ("boolean", json!(false), json!(false)),
            ("number", json!(1.5), json!(1.5)),
            ("date", json!(5), Value::Null),
        ] {
            assert_eq!(cell(kind, &value, now), expected, "{kind} {value}");
        }
    }
}
