//! From a file to objects.

use kube::core::DynamicObject;
use serde_json::Value;

use super::record::Reference;

/// The namespace of objects that name none.
const DEFAULT: &str = "default";
/// What others in the file may need.
const FIRST: [&str; 2] = ["CustomResourceDefinition", "Namespace"];

/// An object that is to be there.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) reference: Reference,
    pub(super) object: DynamicObject,
}

/// The objects of a file, in the order in which they are to be applied.
///
/// # Errors
/// When one of them can't be read: then none is applied, as none of the others would be known to be superfluous.
pub(super) fn read(text: &str) -> Result<Vec<Wanted>, String> {
    let documents: Vec<Value> = if text.trim_start().starts_with('{') {
        let one = serde_json::from_str(text);
        vec![one.map_err(|error| format!("not valid JSON: {error}"))?]
    } else {
        let all = serde_saphyr::from_multiple(text);
        all.map_err(|error| {
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default();
            format!("not valid YAML: {line}")
        })?
    };
    let mut all: Vec<Wanted> = Vec::new();
    for (number, document) in (1..).zip(documents) {
        for object in items(document) {
            let wanted = wanted(object).map_err(|why| format!("document {number}: {why}"))?;
            if all.iter().any(|one| one.reference == wanted.reference) {
                let twice = &wanted.reference;
                return Err(format!("document {number}: {twice} is there twice"));
            }
            all.push(wanted);
        }
    }
    all.sort_by_key(|one| !FIRST.contains(&one.reference.kind.as_str()));
    Ok(all)
}

/// A list's items, or what is no list.
fn items(document: Value) -> Vec<Value> {
    if document.is_null() {
        return Vec::new();
    }
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items.into_iter().flat_map(self::items).collect(),
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn wanted(object: Value) -> Result<Wanted, String> {
    let text = |pointer: &str| {
        let text = object.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let namespace = Some(text("/metadata/namespace")).filter(|text| !text.is_empty());
    let reference = Reference {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: namespace.unwrap_or_else(|| DEFAULT.to_owned()),
        name: text("/metadata/name"),
    };
    if reference.api_version.is_empty() || reference.kind.is_empty() {
        return Err("apiVersion and kind are needed".to_owned());
    }
    if reference.name.is_empty() {
        return Err(format!("{}: metadata.name is needed", reference.kind));
    }
    let object = serde_json::from_value(object);
    let mut object: DynamicObject =
        object.map_err(|error| format!("{reference} is no object: {error}"))?;
    // What only a server says. A manifest that was written by `kubectl get` has them.
    let meta = &mut object.metadata;
    meta.managed_fields = None;
    meta.resource_version = None;
    meta.uid = None;
    meta.creation_timestamp = None;
    meta.generation = None;
    Ok(Wanted { reference, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let all = read(text).unwrap();
        all.iter().map(|one| one.reference.to_string()).collect()
    }

    #[test]
    fn documents_lists_and_json() {
        let config =
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  resourceVersion: \"1\"\n";
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lights}\n";
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: lights}}\n";
        let text = format!("---\n{config}---\n# nothing\n---\n{list}---\n{namespace}");
        assert_eq!(
            names(&text),
            ["Namespace lights", "ConfigMap default/a", "Secret lights/s"]
        );
        assert_eq!(
            read(&text).unwrap()[1].object.metadata.resource_version,
            None
        );
        let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "j"}}"#;
        assert_eq!(names(json), ["ConfigMap default/j"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused_whole() {
        let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        for (bad, said) in [
            ("a: [", "not valid YAML"),
            ("{\"a\"", "not valid JSON"),
            ("just text", "document 2: apiVersion and kind are needed"),
            (
                "kind: ConfigMap",
                "document 2: apiVersion and kind are needed",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}",
                "document 2: Pod: metadata.name is needed",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: 3}",
                "document 2: Pod default/x is no object",
            ),
            (good, "document 2: ConfigMap default/a is there twice"),
            ("kind: A\nkind: B", "not valid YAML"),
        ] {
            let text = if bad.starts_with('{') {
                bad.to_owned()
            } else {
                format!("{good}---\n{bad}\n")
            };
            let why = read(&text).unwrap_err();
            assert!(why.starts_with(said), "{bad}: {why}");
        }
    }
}
