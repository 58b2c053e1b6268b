//! Fields that a schema does not have go.

use serde_json::Value as Json;

use crate::schema::{Additional, Schema};
use crate::steps::Path;

/// Fields that every object has, whatever its schema says.
pub(crate) const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes fields that the schema does not have; the paths of the first `most` of them are the answer.
pub fn prune(value: &mut Json, schema: &Schema, most: usize) -> Vec<String> {
    let mut pruning = Pruning {
        path: Path::default(),
        unknown: Vec::new(),
        most,
    };
    pruning.prune(value, schema);
    pruning.unknown
}

/// Whether pruning would remove something.
pub(crate) fn has_unknown(value: &Json, schema: &Schema) -> bool {
    !prune(&mut value.clone(), schema, 1).is_empty()
}

struct Pruning {
    path: Path,
    unknown: Vec<String>,
    most: usize,
}

impl Pruning {
    fn prune(&mut self, value: &mut Json, schema: &Schema) {
        match value {
            Json::Object(map) => {
                let keeps = schema.preserve_unknown || matches!(schema.additional, Additional::Any);
                let root = self.path.is_root() || schema.embedded;
                map.retain(|key, child| {
                    if root && ALWAYS.contains(&key.as_str()) {
                        return true;
                    }
                    let inner = schema.field(key);
                    if inner.is_none() && (keeps || self.unknown.len() >= self.most) {
                        return keeps;
                    }
                    let back = self.path.field(key);
                    match inner {
                        Some(inner) => self.prune(child, inner),
                        None => self.unknown.push(self.path.shown()),
                    }
                    self.path.back(back);
                    inner.is_some()
                });
            }
            Json::Array(list) => {
                let Some(items) = &schema.items else { return };
                for (n, item) in list.iter_mut().enumerate() {
                    let back = self.path.index(n);
                    self.prune(item, items);
                    self.path.back(back);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
}
