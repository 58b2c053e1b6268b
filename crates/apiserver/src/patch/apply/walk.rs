//! Walks over one or two objects: the fields they have, how they differ, and their merge.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};

use serde_json::{Map, Value};

use super::{
    ApplyError,
    set::{FieldPath, FieldSet},
    shape::{Shape, View},
};

static EMPTY_MAP: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
/// A list without items.
pub(super) static EMPTY_LIST: Value = Value::Array(Vec::new());

/// An object without fields.
pub(super) fn empty_map() -> &'static Value {
    &EMPTY_MAP
}

/// How a second object differs from a first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    pub(super) fn excluding(self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.without_trees(ignored),
            modified: self.modified.without_trees(ignored),
            removed: self.removed.without_trees(ignored),
        }
    }
}

/// What one place has to say of itself and of what is below it.
#[derive(Debug, Default)]
struct Place {
    added: bool,
    modified: bool,
    removed: bool,
    below: Comparison,
}

/// Compares two objects of one shape.
pub(super) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
    // The whole object is no member of a set.
    compare_at(shape, Some(old), Some(new)).below
}

/// The sets are put together from below, so that the name of a place is copied once and not for each place
/// below it: a client chooses how long it is.
fn compare_at(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Place {
    let mut place = Place::default();
    let (old, new) = (old.filter(|v| !v.is_null()), new.filter(|v| !v.is_null()));
    let view = match (old, new) {
        (None, None) => return place,
        (Some(one), None) | (None, Some(one)) => shape.view(one),
        (Some(old), Some(new)) if shape.view(old) == shape.view(new) => shape.view(new),
        (Some(_), Some(_)) => View::Leaf,
    };
    place.added = old.is_none();
    place.removed = new.is_none();
    let empty = |v: Option<&Value>| match v {
        Some(Value::Object(map)) => map.is_empty() && shape.always().next().is_none(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
        None => true,
    };
    if view == View::Leaf || (empty(old) && empty(new)) {
        place.modified = old.is_some() && new.is_some() && old != new;
        return place;
    }
    let below = &mut place.below;
    let mut descend =
        |element: &str, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>| {
            let inner = compare_at(shape, old, new);
            let some = |set: FieldSet| (!set.is_empty()).then_some(set);
            let Comparison {
                added,
                modified,
                removed,
            } = inner.below;
            below.added.put(element, (inner.added, some(added)));
            below
                .modified
                .put(element, (inner.modified, some(modified)));
            below.removed.put(element, (inner.removed, some(removed)));
        };
    if view == View::Map {
        let mut names: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
        for side in [old, new]
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
        {
            names.extend(side.keys().map(|name| (name.as_str(), None)));
        }
        names.extend(shape.always().map(|f| {
            (
                f.name,
                Some(if f.is_list() {
                    &EMPTY_LIST
                } else {
                    &*EMPTY_MAP
                }),
            )
        }));
        for (name, always) in names {
            let inner = shape.field(name);
            descend(
                &format!("f:{name}"),
                inner,
                field(old, name, always),
                field(new, name, always),
            );
        }
    } else {
        let (old, new) = (indexed(shape, old), indexed(shape, new));
        for (element, item) in &old {
            descend(element, shape.item(), Some(item), new.get(element).copied());
        }
        for (element, item) in new
            .iter()
            .filter(|(element, _)| !old.contains_key(*element))
        {
            descend(element, shape.item(), None, Some(item));
        }
    }
    place
}

/// A field of an object that may itself be absent.
fn field<'a>(
    object: Option<&'a Value>,
    name: &str,
    always: Option<&'a Value>,
) -> Option<&'a Value> {
    object?.get(name).filter(|v| !v.is_null()).or(always)
}

/// The items of a list by path element; of items with the same element, the first counts.
fn indexed<'v>(shape: Shape<'_>, list: Option<&'v Value>) -> BTreeMap<String, &'v Value> {
    let items = list
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut index = BTreeMap::new();
    for (at, (element, item)) in shape.elements(items).into_iter().zip(items).enumerate() {
        index
            .entry(element.unwrap_or_else(|_| format!("i:{at}")))
            .or_insert(item);
    }
    index
}

/// The fields that an applied configuration names.
///
/// # Errors
///
/// A list item without its key, or two items with the same one.
pub(super) fn fields(shape: Shape<'_>, value: &Value) -> Result<FieldSet, ApplyError> {
    fields_at(shape, value, &mut Vec::new()).map(|(_, below)| below)
}

/// Whether the place itself is named, and what is named below it.
fn fields_at<'v>(
    shape: Shape<'_>,
    value: &'v Value,
    path: &mut Vec<Element<'v>>,
) -> Result<(bool, FieldSet), ApplyError> {
    let mut set = FieldSet::default();
    let some = |set: FieldSet| (!set.is_empty()).then_some(set);
    match (shape.view(value), value) {
        (View::Map, Value::Object(map)) => {
            for (name, value) in map {
                path.push(Element::Field(name));
                let (named, below) = fields_at(shape.field(name), value, path)?;
                path.pop();
                let is_empty = value.as_object().is_some_and(Map::is_empty);
                let named = named || !shape.declares() || is_empty;
                set.put(&format!("f:{name}"), (named, some(below)));
            }
            Ok((false, set))
        }
        (View::List, Value::Array(items)) => {
            let mut seen = std::collections::BTreeSet::new();
            for (element, item) in shape.elements(items).into_iter().zip(items) {
                let list = |path: &[Element<'_>]| {
                    FieldPath(path.iter().map(Element::name).collect()).to_string()
                };
                let element = element.map_err(|key| ApplyError::MissingKey {
                    list: list(path),
                    key: key.0,
                })?;
                if !seen.insert(element.clone()) {
                    return Err(ApplyError::DuplicateItem {
                        list: list(path),
                        item: FieldPath(vec![element]).to_string(),
                    });
                }
                path.push(Element::Item(element));
                let (_, below) = fields_at(shape.item(), item, path)?;
                if let Some(Element::Item(element)) = path.pop() {
                    set.put(&element, (true, some(below)));
                }
            }
            Ok((false, set))
        }
        (View::Leaf | View::Map | View::List, _) => Ok((true, set)),
    }
}

/// One step of a path, for messages.
enum Element<'v> {
    Field(&'v str),
    Item(String),
}

impl Element<'_> {
    fn name(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Item(element) => element.clone(),
        }
    }
}

/// The live object with a configuration laid over it.
pub(super) fn merge(shape: Shape<'_>, live: &Value, config: &Value) -> Value {
    match (shape.view(config), live, config) {
        (View::Map, Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let value = match live.get(name) {
                    Some(old) => merge(shape.field(name), old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (View::List, Value::Array(live), Value::Array(config)) => {
            Value::Array(merge_lists(shape, live, config))
        }
        (View::Leaf | View::Map | View::List, _, _) => config.clone(),
    }
}

/// Shared items take the configuration's order; items that only the live list has stay where they
/// stood before the next shared one.
fn merge_lists(shape: Shape<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let name = |list: &[Value]| -> Vec<String> {
        let elements = shape.elements(list).into_iter().enumerate();
        elements
            .map(|(at, element)| element.unwrap_or_else(|_| format!("i:{at}")))
            .collect()
    };
    let (left, right) = (name(live), name(config));
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(left.len());
    for (at, element) in left.iter().enumerate() {
        places.entry(element).or_insert(at);
    }
    let configured: HashSet<&str> = right.iter().map(String::as_str).collect();
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let mut at = 0;
    for (element, item) in right.iter().zip(config) {
        let old = places.get(element.as_str()).copied();
        if let Some(old) = old {
            while at < old {
                if !configured.contains(left[at].as_str()) {
                    merged.push(live[at].clone());
                }
                at += 1;
            }
            at = at.max(old + 1);
        }
        merged.push(match old {
            Some(old) => merge(shape.item(), &live[old], item),
            None => item.clone(),
        });
    }
    merged.extend(
        (at..live.len())
            .filter(|at| !configured.contains(left[*at].as_str()))
            .map(|at| live[at].clone()),
    );
    merged
}

/// The value without the fields of the set. A map or list stays when everything in it goes: it goes itself when the set has
/// it.
pub(super) fn remove(shape: Shape<'_>, value: &Value, set: &FieldSet) -> Value {
    match (shape.view(value), value) {
        (View::Map, Value::Object(map)) => {
            let mut left = Map::new();
            for (name, value) in map {
                let element = format!("f:{name}");
                if set.has(&element) {
                    continue;
                }
                match set.below(&element) {
                    Some(below) => {
                        let rest = remove(shape.field(name), value, below);
                        left.insert(name.clone(), rest);
                    }
                    None => {
                        left.insert(name.clone(), value.clone());
                    }
                }
            }
            Value::Object(left)
        }
        (View::List, Value::Array(items)) => {
            let mut left = Vec::new();
            for (at, (element, item)) in shape.elements(items).into_iter().zip(items).enumerate() {
                let element = element.unwrap_or_else(|_| format!("i:{at}"));
                if set.has(&element) {
                    continue;
                }
                match set.below(&element) {
                    Some(below) => left.push(remove(shape.item(), item, below)),
                    None => left.push(item.clone()),
                }
            }
            Value::Array(left)
        }
        (View::Leaf | View::Map | View::List, _) => value.clone(),
    }
}
