use super::*;
use crate::kinds::rows;
use crate::registry::{Registry, Table};

fn table() -> Arc<Table> {
    Registry::new(rows()).table()
}

fn unzip(zipped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(zipped).read_to_end(&mut plain).unwrap();
    plain
}

fn openapi(group: &str, version: &str) -> Value {
    serde_json::from_slice(&unzip(&document::openapi(&table(), group, version))).unwrap()
}

/// All references of a document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_generated_schema_can_be_read_and_refers_to_others_of_the_file() {
    assert!(kinds::GENERATED.kinds.len() > 50);
    for kind in &kinds::GENERATED.kinds {
        assert!(kinds::definition(kind.schema).is_some(), "{}", kind.schema);
    }
    for name in kinds::GENERATED.definitions.keys() {
        let schema = kinds::definition(name).unwrap();
        assert!(schema["description"].is_string(), "{name}");
        let mut found = Vec::new();
        references(&schema, &mut found);
        for reference in found {
            let other = reference.strip_prefix(kinds::REFERENCE).unwrap();
            assert!(
                kinds::GENERATED.definitions.contains_key(other),
                "{name}: {reference}"
            );
        }
    }
}

#[test]
fn every_version_has_a_document_whose_references_resolve() {
    for (group, versions) in table().groups() {
        for version in versions {
            let document = openapi(&group, &version);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(
                    document.pointer(pointer).is_some(),
                    "{group}/{version}: {reference}"
                );
            }
        }
    }
}

#[test]
fn the_document_of_a_custom_resource_holds_all_that_its_schema_refers_to() {
    let mut row = rows().into_iter().find(|r| r.kind == "ConfigMap").unwrap();
    row.group = "berth.example".to_owned();
    row.kind = "Thing".to_owned();
    row.list_kind = "ThingList".to_owned();
    row.plural = "things".to_owned();
    row.schemas
        .insert("v1".to_owned(), r#"{"type":"object"}"#.into());
    let table = Registry::new(vec![row]).table();
    let document: Value =
        serde_json::from_slice(&unzip(&document::openapi(&table, "berth.example", "v1"))).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    let meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert!(found.iter().any(|r| r == meta), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_row_has_the_schema_of_its_type() {
    for row in table().rows() {
        for version in &row.versions {
            let known = kinds::find(&row.group, version, &row.kind).is_some();
            assert!(
                known || row.kind == "RuntimeClass",
                "{}/{version} {}",
                row.group,
                row.kind
            );
        }
    }
}

#[test]
fn schemas_say_what_clients_need_to_merge_and_explain() {
    let document = openapi("", "v1");
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    assert_eq!(schemas["io.k8s.api.core.v1.Pod"].get("required"), None);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    let parameters: Vec<_> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert!(parameters.contains(&"fieldValidation"));
    assert!(document["paths"]["/api/v1/pods"]["get"].is_object());
    assert!(
        document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/status"]["patch"].is_object()
    );
}

#[test]
fn older_versions_of_runtimeclass_have_their_own_form() {
    let alpha = &openapi("node.k8s.io", "v1alpha1")["components"]["schemas"];
    assert!(
        alpha["io.k8s.api.node.v1alpha1.RuntimeClassSpec"]["properties"]["runtimeHandler"]
            .is_object()
    );
    assert!(
        alpha["io.k8s.api.node.v1alpha1.RuntimeClass"]["properties"]
            .get("handler")
            .is_none()
    );
    let beta = &openapi("node.k8s.io", "v1beta1")["components"]["schemas"];
    assert!(beta["io.k8s.api.node.v1beta1.RuntimeClass"]["properties"]["handler"].is_object());
    assert!(beta.get("io.k8s.api.node.v1.RuntimeClass").is_none());
}

#[test]
fn swagger_holds_all_kinds_in_both_encodings() {
    let document: Value =
        serde_json::from_slice(&unzip(&document::swagger(&table(), &[]))).unwrap();
    let definitions = document["definitions"].as_object().unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        assert!(
            definitions.contains_key(reference.strip_prefix("#/definitions/").unwrap()),
            "{reference}"
        );
    }
    for name in [
        "io.k8s.api.core.v1.Pod",
        "io.k8s.api.node.v1.RuntimeClass",
        "io.k8s.api.node.v1alpha1.RuntimeClass",
    ] {
        assert!(
            definitions[name]["x-kubernetes-group-version-kind"].is_array(),
            "{name}"
        );
    }
    let proto = unzip(&document::swagger_proto(&table(), &[]));
    let all = crate::protobuf::field(&proto, 9).unwrap();
    assert_eq!(crate::protobuf::count(all, 1), definitions.len());
}

#[test]
fn the_hash_follows_the_rows() {
    let all = table();
    assert_eq!(
        document::hash(&all, "", "v1"),
        document::hash(&table(), "", "v1")
    );
    assert_ne!(
        document::hash(&all, "", "v1"),
        document::hash(&all, "node.k8s.io", "v1")
    );
    assert_eq!(document::hash(&all, "none.example", "v1"), None);
}
