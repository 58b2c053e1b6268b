//! The owner of a new object's fields, found in one walk: what a comparison with nothing finds added.
//!
//! Most objects are created by a client that says nothing of owners; then there is one entry, and no sets have to be
//! compared for it.

use serde_json::{Map, Value};

use super::Writer;
use super::managed::UNOWNED_METADATA;
use super::shape::{Known, Shape, View};
use super::walk::EMPTY_LIST;
use crate::patch::schema::Field;

/// The fields of a new object that its writer owns, as `FieldsV1`; none when there are none. [`super::track`] gives the
/// same for an object without owners.
#[must_use]
pub fn created(known: Known<'_>, new: &Value, writer: &Writer<'_>) -> Option<Value> {
    let object = new.as_object()?;
    let mut fields = Map::new();
    let shape = Shape::root(known);
    each(shape, object, |name, always, value| {
        if writer.ignored.contains(&name) {
            return;
        }
        let unowned = matches!(name, "apiVersion" | "kind" | "metadata");
        let (member, mut below) = added(shape.field(name), before(always), value);
        if name == "metadata" {
            for name in UNOWNED_METADATA {
                disown(&mut below, &format!("f:{name}"));
            }
        }
        put(&mut fields, name, member && !unowned, below);
    });
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// What is there before the object is: a field that every object has is empty, another is absent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Empty(&'static Value),
}

fn before(always: Option<&Field>) -> Before {
    always.map_or(Before::Absent, |field| Before::Empty(empty(field)))
}

/// Whether a place is added or filled, and what is added below it.
fn added(shape: Shape<'_>, before: Before, value: &Value) -> (bool, Map<String, Value>) {
    let mut below = Map::new();
    let view = match before {
        Before::Absent => shape.view(value),
        Before::Empty(empty) if shape.view(empty) == shape.view(value) => shape.view(value),
        Before::Empty(_) => View::Leaf,
    };
    let is_new = before == Before::Absent;
    match (view, value) {
        (View::Map, Value::Object(object)) => each(shape, object, |name, always, value| {
            let inner = match before {
                Before::Absent => Before::Absent,
                Before::Empty(_) => self::before(always),
            };
            let (member, inner) = added(shape.field(name), inner, value);
            put(&mut below, name, member, inner);
        }),
        (View::List, Value::Array(items)) => {
            for (at, (element, item)) in shape.elements(items).into_iter().zip(items).enumerate() {
                let element = element.unwrap_or_else(|_| format!("i:{at}"));
                // Of items with the same element the first counts.
                if item.is_null() || below.contains_key(&element) {
                    continue;
                }
                let (_, inner) = added(shape.item(), Before::Absent, item);
                below.insert(element, node(true, inner));
            }
        }
        (View::Leaf | View::Map | View::List, _) => {
            let is_other = match before {
                Before::Absent => true,
                Before::Empty(empty) => empty != value,
            };
            return (is_other, below);
        }
    }
    (is_new, below)
}

/// The fields that an object has, and those that every object of its type has.
fn each<'v>(
    shape: Shape<'_>,
    object: &'v Map<String, Value>,
    mut take: impl FnMut(&'v str, Option<&'static Field>, &Value),
) {
    for (name, value) in object {
        if !value.is_null() {
            take(name, shape.always().find(|field| field.name == name), value);
        }
    }
    for field in shape.always() {
        if object.get(field.name).is_none_or(Value::is_null) {
            take(field.name, Some(field), empty(field));
        }
    }
}

fn empty(field: &Field) -> &'static Value {
    if field.is_list() {
        &EMPTY_LIST
    } else {
        super::walk::empty_map()
    }
}

fn put(fields: &mut Map<String, Value>, name: &str, member: bool, below: Map<String, Value>) {
    if member || !below.is_empty() {
        let mut element = String::with_capacity(name.len() + 2);
        element.push_str("f:");
        element.push_str(name);
        fields.insert(element, node(member, below));
    }
}

fn node(member: bool, mut below: Map<String, Value>) -> Value {
    if member && !below.is_empty() {
        below.insert(".".to_owned(), Value::Object(Map::new()));
    }
    Value::Object(below)
}

/// Takes an element out, but not what is below it.
fn disown(fields: &mut Map<String, Value>, element: &str) {
    let Some(Value::Object(below)) = fields.get_mut(element) else {
        return;
    };
    below.remove(".");
    if below.is_empty() {
        fields.remove(element);
    }
}

#[cfg(test)]
mod tests {
    use super::super::track;
    use super::*;
    use crate::patch::schema;
    use proptest::prelude::*;
    use serde_json::json;

    fn both(known: Known<'_>, object: &Value) -> (Option<Value>, Option<Value>) {
        let writer = Writer {
            manager: "one",
            api_version: "v1",
            subresource: "",
            time: "t",
            ignored: &["status"],
            versions: &[],
        };
        let mut tracked = object.clone();
        track(known, None, &mut tracked, &writer);
        let fields = tracked.pointer("/metadata/managedFields/0/fieldsV1");
        (created(known, object, &writer), fields.cloned())
    }

    #[test]
    fn a_pod_has_the_owner_that_a_comparison_finds() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "creationTimestamp": "t", "labels": {"a": "1"},
                "annotations": {}, "finalizers": ["a/b", "a/b"], "ownerReferences": [{"uid": "o", "name": "x"}]},
            "spec": {"hostNetwork": null, "nodeSelector": {"a/b": "c"}, "containers": [
                {"name": "a", "image": "i", "env": [{"name": "E", "value": "\"v\""}, {"name": "E"}], "args": ["x"],
                    "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}], "resources": {}},
                {"name": "b", "resources": {"limits": {"cpu": "1"}}}, {"image": "without a name"}],
                "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [], "securityContext": {}},
            "status": {"phase": "Pending"}});
        let known = Known::Type(schema::lookup("core.v1.Pod").unwrap());
        let (one, other) = both(known, &pod);
        assert_eq!(one, other);
        assert_eq!(
            one.unwrap()["f:metadata"]["f:labels"],
            json!({".": {}, "f:a": {}})
        );
        let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(both(known, &bare).0, both(known, &bare).1);
        assert_eq!(both(Known::Nothing, &bare), (None, None));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(json!("x")),
            Just(json!(1)),
            Just(json!({})),
            Just(json!([])),
        ];
        let names = "name|labels|key|containers|env|ports|containerPort|spec|metadata|volumes|resources|limits|finalizers";
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(names, inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_has_the_owner_that_a_comparison_finds(spec in values(), labels in values(), containers in prop::collection::vec(values(), 0..3)) {
            let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": spec});
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.insert("containers".to_owned(), Value::Array(containers));
            }
            for known in [Known::Nothing, Known::Type(schema::lookup("core.v1.Pod").unwrap())] {
                let (one, other) = both(known, &object);
                prop_assert_eq!(one, other);
            }
        }
    }
}
