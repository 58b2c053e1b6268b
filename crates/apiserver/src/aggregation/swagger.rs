//! What a server says of its group and version in Swagger 2.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const REFERENCE: &str = "#/definitions/";

/// The part of a Swagger 2 document that is about one group and version.
pub(crate) struct Swagger {
    /// Changes with the document.
    pub(crate) hash: String,
    pub(crate) paths: BTreeMap<String, Value>,
    /// Those that the paths lead to.
    pub(crate) definitions: BTreeMap<String, Value>,
}

impl Swagger {
    /// Takes that part of a document; none of what is no document.
    pub(crate) fn parse(document: &Value, group: &str, version: &str, hash: &str) -> Option<Self> {
        document["swagger"].as_str()?;
        let root = format!("/apis/{group}/{version}");
        let is_own = |path: &str| {
            let rest = path.strip_prefix(&root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let paths = document["paths"].as_object()?.iter();
        let paths: BTreeMap<String, Value> = paths
            .filter(|(path, item)| is_own(path) && item.is_object())
            .map(|(path, item)| (path.clone(), item.clone()))
            .collect();
        let none = Map::new();
        let all = document["definitions"].as_object().unwrap_or(&none);
        let mut definitions = BTreeMap::new();
        let mut wanted = Vec::new();
        paths.values().for_each(|item| names(item, &mut wanted));
        while let Some(name) = wanted.pop() {
            if definitions.contains_key(name) {
                continue;
            }
            let Some(definition) = all.get(name).filter(|definition| definition.is_object()) else {
                continue;
            };
            names(definition, &mut wanted);
            definitions.insert(name.to_owned(), definition.clone());
        }
        Some(Self {
            hash: hash.to_owned(),
            paths,
            definitions,
        })
    }
}

/// The names of the definitions that a value refers to.
fn names<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        found.extend(text.strip_prefix(REFERENCE));
                    }
                    value => names(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
