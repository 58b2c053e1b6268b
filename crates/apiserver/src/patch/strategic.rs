//! Strategic merge patch: a merge patch that knows which lists merge and by which key.
//!
//! Directives: `$patch: replace|delete|merge` in maps and list items, `$retainKeys`,
//! `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`.

mod order;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    PatchError,
    schema::{Field, Type},
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// The object with the patch merged in. `ty` is the object's type; where it is not known, maps
/// merge and lists are replaced.
///
/// # Errors
///
/// [`PatchError::BadForm`] for directives of the wrong form, [`PatchError::Unprocessable`] for a
/// list item without its merge key and for directives that do not fit.
pub fn apply(
    ty: Option<&'static Type>,
    object: &Value,
    patch: &Value,
) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::malformed("the patch must be a JSON object"));
    };
    merge_map(object.clone(), patch, ty).map(Value::Object)
}

fn merge_map(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    ty: Option<&'static Type>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => {
            let mut replaced = patch.clone();
            replaced.remove(PATCH);
            return Ok(replaced);
        }
        Some(Some("delete")) => return Ok(Map::new()),
        Some(_) => return Err(unknown_directive(patch)),
    }
    retain_keys(&mut original, patch)?;
    let mut ordered = HashSet::new();
    for (name, order) in patch {
        if let Some(list) = name.strip_prefix(SET_ORDER) {
            set_order(&mut original, patch, list, order, ty)?;
            ordered.insert(list);
        }
    }
    for (name, value) in patch {
        if is_directive(name) && !name.starts_with(DELETE_FROM) || ordered.contains(name.as_str()) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_from(&mut original, list, value)?;
            continue;
        }
        merge_field(&mut original, name, value, ty.and_then(|t| t.field(name)))?;
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map<String, Value>,
    name: &str,
    value: &Value,
    field: Option<&'static Field>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(name);
        return Ok(());
    }
    let merged = match (original.remove(name), value) {
        (Some(Value::Object(_)), Value::Object(_)) if field.is_some_and(|f| f.strategy.replace) => {
            Some(value.clone())
        }
        (Some(Value::Object(old)), Value::Object(new)) => Some(Value::Object(merge_map(
            old,
            new,
            field.and_then(Field::item),
        )?)),
        (Some(Value::Array(old)), Value::Array(new)) => match field {
            Some(field) if field.strategy.merge => Some(Value::Array(merge_list(old, new, field)?)),
            Some(_) | None => Some(value.clone()),
        },
        (Some(_) | None, _) => without_directives(value),
    };
    if let Some(merged) = merged {
        original.insert(name.to_owned(), merged);
    }
    Ok(())
}

/// Merges a list whose strategy is `merge`, of scalars (a set) or of maps with a merge key.
fn merge_list(
    original: Vec<Value>,
    patch: &[Value],
    field: &'static Field,
) -> Result<Vec<Value>, PatchError> {
    let Some(key) = field.strategy.key else {
        let mut merged = original.clone();
        let mut there: HashSet<String> = original.iter().map(text_of).collect();
        for item in patch {
            if item.is_object() || item.is_array() {
                return Err(PatchError::unprocessable(format!(
                    "cannot merge lists without merge key for {}",
                    field.name
                )));
            }
            if there.insert(text_of(item)) {
                merged.push(item.clone());
            }
        }
        return Ok(order::arrange(merged, patch, &original, None));
    };
    let mut kept = original;
    let mut items = Vec::new();
    let mut replace = false;
    let mut deleted = HashSet::new();
    for item in patch {
        let Value::Object(map) = item else {
            return Err(PatchError::unprocessable(format!(
                "the items of {} must be objects",
                field.name
            )));
        };
        match map.get(PATCH).map(Value::as_str) {
            None | Some(Some("merge")) => items.push(map),
            Some(Some("replace")) => replace = true,
            Some(Some("delete")) => {
                deleted.insert(text_of(merge_value(map, key)?));
            }
            Some(_) => return Err(unknown_directive(map)),
        }
    }
    if replace {
        return Ok(items.into_iter().cloned().map(Value::Object).collect());
    }
    if !deleted.is_empty() {
        kept.retain(|old| {
            old.get(key)
                .is_none_or(|value| !deleted.contains(&text_of(value)))
        });
    }
    let before = kept.clone();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, old) in kept.iter().enumerate() {
        if let Some(value) = old.get(key) {
            places.entry(text_of(value)).or_insert(at);
        }
    }
    for item in &items {
        let value = text_of(merge_value(item, key)?);
        match places.get(&value).and_then(|at| kept.get_mut(*at)) {
            Some(Value::Object(old)) => *old = merge_map(std::mem::take(old), item, field.item())?,
            Some(_) | None => {
                if let Some(new) = without_directives(&Value::Object((*item).clone())) {
                    places.entry(value).or_insert(kept.len());
                    kept.push(new);
                }
            }
        }
    }
    let wanted: Vec<Value> = items.into_iter().cloned().map(Value::Object).collect();
    Ok(order::arrange(kept, &wanted, &before, Some(key)))
}

/// `$setElementOrder/LIST`: merges the list of that name, if the patch has one, and then puts the
/// items into the given order; items that only the server knows keep their neighbours.
fn set_order(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    list: &str,
    order: &Value,
    ty: Option<&'static Type>,
) -> Result<(), PatchError> {
    let bad = || PatchError::bad_form(format!("{SET_ORDER}{list} must go with a list"));
    let order = order.as_array().ok_or_else(bad)?;
    let field = ty.and_then(|t| t.field(list));
    let key = field.and_then(|f| f.strategy.key);
    let old = match original.get(list) {
        None => None,
        Some(Value::Array(old)) => Some(old.clone()),
        Some(_) => return Err(bad()),
    };
    let new = match patch.get(list) {
        None => None,
        Some(Value::Array(new)) => Some(new),
        Some(_) => return Err(bad()),
    };
    if let Some(new) = new {
        order::agree(new, order, key, list)?;
    }
    let merged = match (&old, new) {
        (None, None) => return Ok(()),
        (Some(old), None) => old.clone(),
        (None, Some(new)) => items_without_directives(new),
        (Some(old), Some(new)) => match field {
            Some(field) if field.strategy.merge => merge_list(old.clone(), new, field)?,
            Some(_) | None => new.clone(),
        },
    };
    let arranged = order::arrange(merged, order, old.as_deref().unwrap_or_default(), key);
    original.insert(list.to_owned(), Value::Array(arranged));
    Ok(())
}

fn delete_from(
    original: &mut Map<String, Value>,
    list: &str,
    values: &Value,
) -> Result<(), PatchError> {
    let values = values
        .as_array()
        .ok_or_else(|| PatchError::bad_form(format!("{DELETE_FROM}{list} must be a list")))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        let gone: HashSet<String> = values.iter().map(text_of).collect();
        items.retain(|item| !gone.contains(&text_of(item)));
    }
    Ok(())
}

/// `$retainKeys`: whatever the list does not name goes.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || {
        PatchError::bad_form(format!(
            "{RETAIN_KEYS} must list every field that the patch sets"
        ))
    };
    let keys = keys.as_array().ok_or_else(bad)?;
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let named = |name: &str| keys.contains(name);
    if patch
        .iter()
        .any(|(name, value)| !value.is_null() && !is_directive(name) && !named(name))
    {
        return Err(bad());
    }
    original.retain(|name, _| named(name));
    Ok(())
}

/// What remains of a part of the patch that has no counterpart: nulls and directives have nothing
/// to act on; a map with a `$patch` of its own is not kept at all.
fn without_directives(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) => match map.get(PATCH).and_then(Value::as_str) {
            Some("delete") => None,
            Some(_) | None => Some(Value::Object(
                map.iter()
                    .filter(|(name, value)| !is_directive(name) && !value.is_null())
                    .filter_map(|(name, value)| Some((name.clone(), without_directives(value)?)))
                    .collect(),
            )),
        },
        Value::Array(items) => Some(Value::Array(items_without_directives(items))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
    }
}

/// A new list. An item with a directive says something about the list, it is none of its items.
fn items_without_directives(items: &[Value]) -> Vec<Value> {
    let said = |item: &&Value| {
        matches!(
            item.get(PATCH).and_then(Value::as_str),
            Some("delete" | "replace")
        )
    };
    items
        .iter()
        .filter(|item| !said(item))
        .filter_map(without_directives)
        .collect()
}

/// What equal values have in common, for looking one up among many.
fn text_of(value: &Value) -> String {
    value.to_string()
}

/// A map for a message: a client chooses how large it is.
fn shown(map: &Map<String, Value>) -> String {
    const MAX_CHARS: usize = 1_000;
    let text = Value::Object(map.clone()).to_string();
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn is_directive(name: &str) -> bool {
    name == PATCH
        || name == RETAIN_KEYS
        || name.starts_with(SET_ORDER)
        || name.starts_with(DELETE_FROM)
}

fn merge_value<'a>(item: &'a Map<String, Value>, key: &str) -> Result<&'a Value, PatchError> {
    item.get(key).ok_or_else(|| {
        PatchError::unprocessable(format!(
            "map: {} does not contain declared merge key: {key}",
            shown(item)
        ))
    })
}

fn unknown_directive(map: &Map<String, Value>) -> PatchError {
    PatchError::unprocessable(format!(
        "unknown patch type {:.100} in {}",
        map.get(PATCH).map(text_of).unwrap_or_default(),
        shown(map)
    ))
}

#[cfg(test)]
mod tests;
