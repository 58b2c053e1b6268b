//! From RuntimeClass v1alpha1 (and v1beta1, and instances of the old CRD) to v1, in manifests and live objects.
//!
//! A manifest keeps its comments and its layout: each document is rewritten line by line ([`layout`]) and the
//! result is read again; only if it does not say exactly what the conversion of the object says, the document is
//! written anew, without its inner comments. What has no valid handler is refused, with a suggestion.

mod layout;

use berth_api::names;
use berth_api::runtimeclass::{self, ConversionError, GROUP, Version};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// The CustomResourceDefinition of the alpha days. It must go before the built-in resource can be used.
pub const OLD_CRD: &str = "runtimeclasses.node.k8s.io";

/// A file that cannot be read as manifests at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}: document {document}: not valid YAML or JSON: {reason}")]
pub struct Unreadable {
    /// The file.
    pub file: String,
    /// Which of its documents, from 1.
    pub document: usize,
    /// What the parser says.
    pub reason: String,
}

/// An object that is not migrated, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{file}: RuntimeClass {object:?}: {reason}; {suggestion}")]
pub struct Refusal {
    /// The file, or where the object lives.
    pub file: String,
    /// The object.
    pub object: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub suggestion: String,
}

/// An object that was migrated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// The object.
    pub object: String,
    /// What it was: `v1alpha1` or `v1beta1`.
    pub from: &'static str,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// The new text; the old one where nothing changed.
    pub text: String,
    /// The objects that changed.
    pub migrated: Vec<Migrated>,
    /// The objects that stand in the way; with any of them the text must not be used.
    pub refused: Vec<Refusal>,
    /// What a person has to do or should know.
    pub notes: Vec<String>,
}

impl Migration {
    /// Whether the file is to be written.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.refused.is_empty() && !self.migrated.is_empty()
    }
}

/// Migrates a file of YAML documents, or of JSON.
///
/// # Errors
/// [`Unreadable`].
pub fn file(name: &str, text: &str) -> Result<Migration, Unreadable> {
    let mut result = Migration::default();
    if text.trim_start().starts_with('{') {
        return json(name, text);
    }
    let (documents, tail) = layout::documents(text);
    for (i, part) in documents.into_iter().enumerate() {
        let value: Value = serde_saphyr::from_str(part.body).map_err(|e| Unreadable {
            file: name.to_owned(),
            document: i + 1,
            reason: e.to_string().lines().next().unwrap_or_default().to_owned(),
        })?;
        result.text.push_str(part.separator);
        let before = result.migrated.len();
        let converted = value_of_document(name, value.clone(), &mut result);
        if is_old_crd(&value) {
            result.text.push_str(&layout::commented_out(
                part.body,
                "berth migrate: the old CRD is left out. Delete it from the cluster before you apply this file.",
            ));
            result.migrated.push(Migrated {
                object: OLD_CRD.to_owned(),
                from: "apiextensions.k8s.io",
            });
            continue;
        }
        if result.migrated.len() == before {
            result.text.push_str(part.body);
            continue;
        }
        let rewritten = layout::rewrite(part.body);
        let same = serde_saphyr::from_str::<Value>(&rewritten).is_ok_and(|v| v == converted);
        if same {
            result.text.push_str(&rewritten);
        } else {
            result.notes.push(format!(
                "{name}: document {}: written anew, comments inside it are only in the original",
                i + 1
            ));
            result.text.push_str(&layout::leading_comments(part.body));
            result
                .text
                .push_str(&serde_saphyr::to_string(&converted).unwrap_or_default());
        }
    }
    result.text.push_str(tail);
    Ok(result)
}

fn json(name: &str, text: &str) -> Result<Migration, Unreadable> {
    let value: Value = serde_json::from_str(text).map_err(|e| Unreadable {
        file: name.to_owned(),
        document: 1,
        reason: e.to_string(),
    })?;
    let mut result = Migration::default();
    let converted = value_of_document(name, value, &mut result);
    result.text = if result.migrated.is_empty() {
        text.to_owned()
    } else {
        let mut pretty = serde_json::to_string_pretty(&converted).unwrap_or_default();
        pretty.push('\n');
        pretty
    };
    Ok(result)
}

fn is_old_crd(value: &Value) -> bool {
    value["kind"] == "CustomResourceDefinition" && value["metadata"]["name"] == OLD_CRD
}

/// Converts the classes in a document, which may be a list, and notes what happened.
fn value_of_document(file: &str, mut value: Value, result: &mut Migration) -> Value {
    if is_old_crd(&value) {
        result.notes.push(format!(
            "{file}: holds the CustomResourceDefinition {OLD_CRD} of the alpha days: delete it from the cluster \
             (kubectl delete crd {OLD_CRD}) after saving its objects and before applying the migrated ones"
        ));
        return value;
    }
    let list_version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let is_class_list = value["kind"] == "RuntimeClassList";
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        let mut moved = false;
        for item in items {
            let bare = item.get("apiVersion").is_none();
            if bare && is_class_list {
                item["apiVersion"] = list_version.clone().unwrap_or_default().into();
                item["kind"] = "RuntimeClass".into();
            }
            *item = one(file, item.take(), result);
            if bare && is_class_list {
                moved = true;
                if let Some(map) = item.as_object_mut() {
                    map.remove("apiVersion");
                    map.remove("kind");
                }
            }
        }
        let old = list_version.as_deref().and_then(Version::parse);
        if (moved || is_class_list) && old.is_some_and(|v| v != Version::V1) {
            value["apiVersion"] = Version::V1.api_version().into();
        }
        return value;
    }
    one(file, value, result)
}

/// One object; what is no old RuntimeClass stays as it is.
fn one(file: &str, value: Value, result: &mut Migration) -> Value {
    let version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let in_group = version.split('/').next() == Some(GROUP);
    if value["kind"] != "RuntimeClass" || !in_group || version == Version::V1.api_version() {
        return value;
    }
    let from = Version::parse(version).map_or("an unknown version", Version::name);
    let object = value["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match object_to_v1(file, value.clone()) {
        Ok(converted) => {
            result.migrated.push(Migrated { object, from });
            converted
        }
        Err(refusal) => {
            result.refused.push(refusal);
            value
        }
    }
}

/// Converts one object to v1 and checks its handler and name.
///
/// # Errors
/// [`Refusal`].
pub fn object_to_v1(file: &str, value: Value) -> Result<Value, Refusal> {
    let name = value["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let refuse = |reason: String, suggestion: String| Refusal {
        file: file.to_owned(),
        object: name.clone(),
        reason,
        suggestion,
    };
    let alpha = value["apiVersion"] == Version::V1Alpha1.api_version();
    let field = if alpha {
        "spec.runtimeHandler"
    } else {
        "handler"
    };
    let converted = runtimeclass::convert(value, Version::V1).map_err(|e| match e {
        ConversionError::UnknownVersion(_) => refuse(
            e.to_string(),
            "set apiVersion to the version the object was written for".to_owned(),
        ),
        ConversionError::NotAnObject | ConversionError::SpecNotAnObject => refuse(
            e.to_string(),
            "compare the object with the v1alpha1 documentation".to_owned(),
        ),
        ConversionError::Collision(outer) => refuse(
            e.to_string(),
            format!("remove one of the two; {outer} in spec is v1alpha1's"),
        ),
    })?;
    match &converted["handler"] {
        Value::String(handler) => check_handler(handler, field).map_err(|(r, s)| refuse(r, s))?,
        Value::Null => {
            return Err(refuse(
                format!("{field} is missing"),
                "a class needs the name of a handler that the nodes' runtime is configured with; if the node's \
                 default was meant, name that (usually runc), or delete the class and drop runtimeClassName from \
                 its pods"
                    .to_owned(),
            ));
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(refuse(
                format!("{field} is not a text"),
                "put the handler's name in quotes".to_owned(),
            ));
        }
    }
    let complaints = names::dns1123_subdomain(&name);
    if let Some(complaint) = complaints.into_iter().next() {
        return Err(refuse(
            format!("metadata.name: {complaint}"),
            "give the class a valid name, and its pods that name as runtimeClassName".to_owned(),
        ));
    }
    Ok(converted)
}

/// `(reason, suggestion)` for a handler that v1 does not take.
fn check_handler(handler: &str, field: &str) -> Result<(), (String, String)> {
    if handler.is_empty() {
        return Err((
            format!("{field} is empty"),
            "an empty handler stood for the node's default: name it (usually runc), or delete the class and drop \
             runtimeClassName from its pods"
                .to_owned(),
        ));
    }
    let complaints = names::dns1123_label(handler);
    if complaints.is_empty() {
        return Ok(());
    }
    let reason = if handler.contains('.') {
        format!("{field} {handler:?} contains dots, which no version after v1alpha1 allows")
    } else {
        format!("{field} {handler:?}: {}", complaints.join("; "))
    };
    let mut better: String = handler
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    better.truncate(names::LABEL_MAX);
    let better = better.trim_matches('-');
    Err((
        reason,
        format!(
            "rename the handler in the configuration of the nodes' runtime, for example to {better:?}, and write \
             that here"
        ),
    ))
}

/// What the server set and a new object must not have; for objects read from a cluster.
pub fn strip_server_fields(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
    }
    let Some(metadata) = value["metadata"].as_object_mut() else {
        return;
    };
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
        "selfLink",
        "managedFields",
        "clusterName",
    ] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        // It holds the old form and would make kubectl apply compute a wrong difference.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

#[cfg(test)]
mod tests;
