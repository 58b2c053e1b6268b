//! Defaults come; and nulls go where null isn't allowed.

use serde_json::{Map, Value as Json};

use crate::schema::{Additional, Schema};
use crate::steps::{DEFAULTS_MAX, STEPS_MAX, TooMuch, spend};

/// Fills in defaults. A null where none is allowed counts as absent: the default takes its place, or it goes.
///
/// # Errors
/// [`TooMuch`] when they are, or take, too much.
pub fn default(value: &mut Json, schema: &Schema) -> Result<(), TooMuch> {
    let mut filling = Filling {
        bytes: DEFAULTS_MAX,
        steps: STEPS_MAX,
    };
    filling.default(value, schema)
}

/// What may still be done.
struct Filling {
    bytes: usize,
    steps: usize,
}

fn forbidden_null(value: &Json, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

impl Filling {
    fn default(&mut self, value: &mut Json, schema: &Schema) -> Result<(), TooMuch> {
        spend(&mut self.steps, 1)?;
        match value {
            Json::Object(map) => {
                spend(&mut self.steps, schema.properties.len())?;
                for (key, schema) in &schema.properties {
                    self.property(map, key, schema)?;
                }
                if let Additional::Schema(additional) = &schema.additional {
                    spend(&mut self.steps, map.len())?;
                    map.retain(|key, child| {
                        schema.properties.contains_key(key) || !forbidden_null(child, additional)
                    });
                    for (_, child) in map
                        .iter_mut()
                        .filter(|(key, _)| !schema.properties.contains_key(*key))
                    {
                        self.default(child, additional)?;
                    }
                }
            }
            Json::Array(list) => {
                if let Some(items) = &schema.items {
                    for item in list {
                        self.default(item, items)?;
                    }
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
        Ok(())
    }

    fn property(
        &mut self,
        map: &mut Map<String, Json>,
        key: &str,
        schema: &Schema,
    ) -> Result<(), TooMuch> {
        let absent = map
            .get(key)
            .is_none_or(|value| forbidden_null(value, schema));
        match &schema.default {
            Some(given) if absent => {
                let bytes = size_of_value(given).saturating_add(key.len());
                self.bytes = self.bytes.checked_sub(bytes).ok_or(TooMuch::Defaults)?;
                map.insert(key.to_owned(), given.clone());
            }
            None if absent => {
                map.remove(key);
            }
            Some(_) | None => {}
        }
        match map.get_mut(key) {
            Some(child) => self.default(child, schema),
            None => Ok(()),
        }
    }
}

/// About the bytes that a value takes.
fn size_of_value(value: &Json) -> usize {
    let inside: usize = match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len(),
        Json::Array(list) => list.iter().map(size_of_value).sum(),
        Json::Object(map) => map.iter().map(|(k, v)| k.len() + size_of_value(v)).sum(),
    };
    inside + size_of::<Json>()
}
