//! `additionalPrinterColumns`: their JSON paths, as far as they are plain fields and indexes.

use std::sync::Arc;

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
        paths.push((kind, pointer(&column.json_path)));
    }
    Printer {
        columns: shown.into(),
        cells: Arc::new(move |object, now| {
            let mut cells = vec![object["metadata"]["name"].clone()];
            for (kind, pointer) in &paths {
                let value = object.pointer(pointer).cloned().unwrap_or(Value::Null);
                cells.push(match (*kind, value.as_str()) {
                    ("date", Some(at)) => Value::String(age::since(at, now)),
                    ("string", None) if !value.is_null() => Value::String(value.to_string()),
                    _ => value,
                });
            }
            cells
        }),
    }
}

/// `.spec.list[0].name` as a JSON pointer.
fn pointer(path: &str) -> String {
    let mut pointer = String::new();
    for part in path.replace('[', ".").replace(']', "").split('.') {
        let part = part.trim_matches(|c| c == '\'' || c == '"');
        if !part.is_empty() {
            pointer.push('/');
            pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::pointer;

    #[test]
    fn paths_become_pointers() {
        assert_eq!(pointer(".spec.list[0].name"), "/spec/list/0/name");
        assert_eq!(
            pointer(".metadata.annotations['a/b']"),
            "/metadata/annotations/a~1b"
        );
    }
}
