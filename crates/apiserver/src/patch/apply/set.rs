//! Sets of fields, in the form that `managedFields` stores them (`FieldsV1`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};

/// A set of paths. Path elements are kept as `FieldsV1` writes them: `f:NAME` a field,
/// `k:{"name":"x"}` the list item with that key, `v:VALUE` a set's item, `i:N` an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    members: BTreeSet<String>,
    children: BTreeMap<String, FieldSet>,
}

/// One path in a [`FieldSet`]; displays as `.spec.containers[name="a"].image`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(pub Vec<String>);

impl FieldSet {
    /// Whether there is no path in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Adds a path; the empty path, which stands for the whole object, is not a member.
    pub fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the element itself is a member.
    #[must_use]
    pub fn has(&self, element: &str) -> bool {
        self.members.contains(element)
    }

    /// The paths below the element.
    #[must_use]
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.children.get(element).filter(|set| !set.is_empty())
    }

    /// Takes the element and what is below it out.
    pub(super) fn take(&mut self, element: &str) -> (bool, Option<Self>) {
        (self.members.remove(element), self.children.remove(element))
    }

    /// Puts an element and a set below it in.
    pub(super) fn put(&mut self, element: &str, (member, below): (bool, Option<Self>)) {
        if member {
            self.members.insert(element.to_owned());
        }
        if let Some(below) = below {
            self.children.insert(element.to_owned(), below);
        }
    }

    /// All paths of both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.members.extend(other.members.iter().cloned());
        for (element, theirs) in &other.children {
            let ours = self.children.remove(element).unwrap_or_default();
            self.children.insert(element.clone(), ours.union(theirs));
        }
        self
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, ours)| {
            let both = ours.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// The paths that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, ours)| {
            let left = other
                .children
                .get(element)
                .map_or_else(|| ours.clone(), |theirs| ours.difference(theirs));
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// The paths that neither are in the other nor below a member of it.
    #[must_use]
    pub fn without_trees(&self, other: &Self) -> Self {
        let children = self
            .children
            .iter()
            .filter(|(element, _)| !other.members.contains(*element))
            .filter_map(|(element, ours)| {
                let left = other
                    .children
                    .get(element)
                    .map_or_else(|| ours.clone(), |theirs| ours.without_trees(theirs));
                (!left.is_empty()).then(|| (element.clone(), left))
            });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// The set with every named field that has members below it as a member too.
    #[must_use]
    pub fn with_parents(&self) -> Self {
        let mut all = self.clone();
        for (element, below) in &self.children {
            if element.starts_with("f:") && !below.is_empty() {
                all.members.insert(element.clone());
            }
            all.children.insert(element.clone(), below.with_parents());
        }
        all
    }

    /// All paths, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<FieldPath> {
        self.first_paths(usize::MAX)
    }

    /// As many paths, in order, as have about so many bytes together, but one in any case.
    #[must_use]
    pub fn first_paths(&self, mut bytes: usize) -> Vec<FieldPath> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths, &mut bytes);
        paths.sort();
        paths
    }

    fn collect<'s>(
        &'s self,
        prefix: &mut Vec<&'s str>,
        paths: &mut Vec<FieldPath>,
        bytes: &mut usize,
    ) {
        for member in &self.members {
            if *bytes == 0 {
                return;
            }
            let path: Vec<String> = prefix
                .iter()
                .copied()
                .chain([member.as_str()])
                .map(str::to_owned)
                .collect();
            *bytes = bytes.saturating_sub(path.iter().map(String::len).sum());
            paths.push(FieldPath(path));
        }
        for (element, below) in &self.children {
            prefix.push(element);
            below.collect(prefix, paths, bytes);
            prefix.pop();
        }
    }

    /// As `FieldsV1`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for member in &self.members {
            map.insert(member.clone(), Value::Object(Map::new()));
        }
        for (element, below) in self.children.iter().filter(|(_, below)| !below.is_empty()) {
            let mut inner = below.to_value();
            if let (true, Some(inner)) = (self.members.contains(element), inner.as_object_mut()) {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.clone(), inner);
        }
        Value::Object(map)
    }

    /// Whether a value is of the form of `FieldsV1`.
    #[must_use]
    pub fn is_form(value: &Value) -> bool {
        let is_element = |element: &str| match element.split_once(':') {
            Some(("f", _)) => true,
            Some(("k", keys)) => serde_json::from_str::<Map<String, Value>>(keys).is_ok(),
            Some(("v", item)) => serde_json::from_str::<Value>(item).is_ok(),
            Some(("i", at)) => at.parse::<i64>().is_ok(),
            Some(_) | None => element == ".",
        };
        let Some(map) = value.as_object() else {
            return false;
        };
        map.iter()
            .all(|(element, below)| is_element(element) && Self::is_form(below))
    }

    /// From `FieldsV1`; what is not of its form is left out.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(element, _)| *element != ".")
        {
            let inner = Self::from_value(below);
            if inner.is_empty() || below.get(".").is_some() {
                set.members.insert(element.clone());
            }
            if !inner.is_empty() {
                set.children.insert(element.clone(), inner);
            }
        }
        set
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for element in &self.0 {
            match element.split_once(':') {
                Some(("f", name)) => write!(f, ".{name}")?,
                Some(("k", keys)) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let keys: Vec<_> = keys
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect();
                    write!(f, "[{}]", keys.join(","))?;
                }
                Some(("v", value)) => write!(f, "[={value}]")?,
                Some((_, index)) => write!(f, "[{index}]")?,
                None => write!(f, "[{element}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_and_writes_fields_v1() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}}}});
        let set = FieldSet::from_value(&fields);
        assert_eq!(set.to_value(), fields);
        let paths: Vec<_> = set.paths().iter().map(ToString::to_string).collect();
        assert_eq!(
            paths,
            [
                ".metadata.labels",
                ".metadata.labels.a",
                ".spec.containers[name=\"x\"]",
                ".spec.containers[name=\"x\"].image"
            ]
        );
    }

    #[test]
    fn what_is_of_the_form() {
        for (value, is) in [
            (json!({}), true),
            (
                json!({"f:a": {".": {}, "k:{\"b\":1}": {}, "v:\"x\"": {}, "i:3": {}}}),
                true,
            ),
            (json!({"a": {}}), false),
            (json!({"f:a": {"b": {}}}), false),
            (json!({"f:a": null}), false),
            (json!({"f:a": []}), false),
            (json!({"k:b": {}}), false),
            (json!({"k:[1]": {}}), false),
            (json!({"v:x": {}}), false),
            (json!({"i:x": {}}), false),
            (json!([]), false),
        ] {
            assert_eq!(FieldSet::is_form(&value), is, "{value}");
        }
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(prop::collection::vec("f:[a-c]", 1..4), 0..8).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                set.insert(&path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn algebra_of_sets(a in sets(), b in sets()) {
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            let parts = a.difference(&b).union(&a.intersection(&b));
            prop_assert_eq!(parts.paths(), a.paths());
            let both = a.clone().union(&b);
            prop_assert!(a.difference(&both).is_empty() && b.difference(&both).is_empty());
            prop_assert_eq!(FieldSet::from_value(&both.to_value()).paths(), both.paths());
        }
    }
}
