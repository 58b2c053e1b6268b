//! What other servers' Swagger documents add to this server's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schemas::Definitions;
use crate::aggregation::Swagger;

const REFERENCE: &str = "#/definitions/";

/// Adds the paths and definitions of another server. A definition that this document has already, with another content,
/// gets another name there, as the stock aggregator does it: nobody changes what the types of others are.
pub(super) fn add(
    paths: &mut Vec<(String, Value)>,
    definitions: &mut Definitions,
    other: &Swagger,
) {
    let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
    for (name, definition) in &other.definitions {
        if definitions.get(name).is_some_and(|own| own != definition) {
            let mut number = 2;
            let mut free = format!("{name}_v{number}");
            // One that another server has brought already will do, when it is the same.
            let is_taken = |free: &String| {
                definitions.get(free).is_some_and(|own| own != definition)
                    || other.definitions.contains_key(free)
            };
            while is_taken(&free) {
                number += 1;
                free = format!("{name}_v{number}");
            }
            renamed.insert(name, free);
        }
    }
    for (name, definition) in &other.definitions {
        let mut definition = definition.clone();
        rename(&mut definition, &renamed);
        let name = renamed.get(name.as_str()).unwrap_or(name).clone();
        definitions.entry(name).or_insert(definition);
    }
    for (path, item) in &other.paths {
        if paths.iter().any(|(own, _)| own == path) {
            continue;
        }
        let mut item = item.clone();
        rename(&mut item, &renamed);
        paths.push((path.clone(), item));
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<&str, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        let name = text.strip_prefix(REFERENCE);
                        if let Some(other) = name.and_then(|name| renamed.get(name)) {
                            *text = format!("{REFERENCE}{other}");
                        }
                    }
                    value => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn swagger() -> Swagger {
        let document = json!({"swagger": "2.0",
            "paths": {"/apis/ext.example.com/v1/things": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/a.Thing"}}}}},
                "/api/v1/pods": {"get": {}}, "/apis/ext.example.com/v10/others": {"get": {}}, "/apis/ext.example.com/v1": {"get": {}}},
            "definitions": {"a.Thing": {"properties": {"meta": {"$ref": "#/definitions/Meta"}, "own": {"items": {"$ref": "#/definitions/Own"}}}},
                "Meta": {"type": "object", "description": "theirs"}, "Own": {"type": "string"}, "Unused": {"type": "object"}}});
        Swagger::parse(&document, "ext.example.com", "v1", "etag").expect("a document")
    }

    #[test]
    fn only_what_belongs_to_the_group_is_taken() {
        let swagger = swagger();
        let paths: Vec<&String> = swagger.paths.keys().collect();
        assert_eq!(
            paths,
            [
                "/apis/ext.example.com/v1",
                "/apis/ext.example.com/v1/things"
            ]
        );
        let names: Vec<&String> = swagger.definitions.keys().collect();
        assert_eq!(names, ["Meta", "Own", "a.Thing"]);
    }

    #[test]
    fn nobody_changes_the_types_of_others() {
        let mut paths = vec![("/apis/ext.example.com/v1".to_owned(), json!({"own": true}))];
        let mut definitions = Definitions::new();
        let own = json!({"type": "object", "description": "ours"});
        definitions.insert("Meta".to_owned(), own.clone());
        definitions.insert("Own".to_owned(), json!({"type": "string"}));
        add(&mut paths, &mut definitions, &swagger());
        assert_eq!(definitions["Meta"], own);
        assert_eq!(definitions["Meta_v2"]["description"], "theirs");
        assert_eq!(
            definitions["a.Thing"]["properties"]["meta"]["$ref"],
            "#/definitions/Meta_v2"
        );
        assert_eq!(
            definitions["a.Thing"]["properties"]["own"]["items"]["$ref"],
            "#/definitions/Own"
        );
        assert!(!definitions.contains_key("Own_v2"), "the same is the same");
        assert_eq!(paths.len(), 2);
        assert_eq!(paths[0].1, json!({"own": true}));
        // Once more is no more.
        let before = definitions.len();
        add(&mut paths, &mut definitions, &swagger());
        assert_eq!((paths.len(), definitions.len()), (2, before + 1));
    }
}
