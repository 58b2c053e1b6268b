//! core/v1 ConfigMap and Secret.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::Rules;
use berth_core::meta::{self, Scope};

/// All values of one object together.
const MAX_SIZE: usize = 1024 * 1024;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn same_map<K: PartialEq, V: PartialEq>(
    a: Option<&std::collections::BTreeMap<K, V>>,
    b: Option<&std::collections::BTreeMap<K, V>>,
) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        (Some(only), None) | (None, Some(only)) => only.is_empty(),
        (None, None) => true,
    }
}

impl Rules for ConfigMap {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let (data_at, binary_at) = (FieldPath::new("data"), FieldPath::new("binaryData"));
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            meta::extend_invalid(
                &mut errors,
                &data_at.key(key),
                key,
                names::config_map_key(key),
            );
            if self
                .binary_data
                .as_ref()
                .is_some_and(|b| b.contains_key(key))
            {
                errors.push(FieldError::invalid(
                    &data_at.key(key),
                    key,
                    "duplicate of key present in binaryData",
                ));
            }
            size += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            meta::extend_invalid(
                &mut errors,
                &binary_at.key(key),
                key,
                names::config_map_key(key),
            );
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(&FieldPath::new("[]"), MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if old.immutable == Some(true) {
            for (name, kept) in [
                ("immutable", self.immutable == Some(true)),
                ("data", same_map(self.data.as_ref(), old.data.as_ref())),
                (
                    "binaryData",
                    same_map(self.binary_data.as_ref(), old.binary_data.as_ref()),
                ),
            ] {
                if !kept {
                    errors.push(FieldError::forbidden(&FieldPath::new(name), IMMUTABLE));
                }
            }
        }
        errors.extend(self.validate());
        errors
    }
}

impl Rules for Secret {
    /// `stringData` goes into `data`, which it never leaves again.
    fn default(&mut self) {
        if let Some(text) = self.string_data.take() {
            let data = self.data.get_or_insert_default();
            data.extend(
                text.into_iter()
                    .map(|(k, v)| (k, ByteString(v.into_bytes()))),
            );
        }
        let kind = self.type_.get_or_insert_default();
        if kind.is_empty() {
            "Opaque".clone_into(kind);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let at = FieldPath::new("data");
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            meta::extend_invalid(&mut errors, &at.key(key), key, names::config_map_key(key));
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(&at, MAX_SIZE));
        }
        errors.extend(content(self, &at));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        meta::immutable(
            &mut errors,
            &FieldPath::new("type"),
            &self.type_,
            &old.type_,
        );
        if old.immutable == Some(true) {
            if self.immutable != Some(true) {
                errors.push(FieldError::forbidden(
                    &FieldPath::new("immutable"),
                    IMMUTABLE,
                ));
            }
            if !same_map(self.data.as_ref(), old.data.as_ref()) {
                errors.push(FieldError::forbidden(&FieldPath::new("data"), IMMUTABLE));
            }
        }
        errors.extend(self.validate());
        errors
    }
}

/// What each type of secret must hold. Values never appear in an error.
fn content(secret: &Secret, at: &FieldPath) -> Vec<FieldError> {
    let get = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
    let mut errors = Vec::new();
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let named = secret
                .metadata
                .annotations
                .as_ref()
                .and_then(|a| a.get(key));
            if named.is_none_or(String::is_empty) {
                errors.push(FieldError::required(
                    &FieldPath::new("metadata.annotations").key(key),
                    "",
                ));
            }
        }
        "kubernetes.io/dockercfg" => {
            errors.extend(json_object(get(".dockercfg"), &at.key(".dockercfg")))
        }
        "kubernetes.io/dockerconfigjson" => {
            errors.extend(json_object(
                get(".dockerconfigjson"),
                &at.key(".dockerconfigjson"),
            ));
        }
        "kubernetes.io/basic-auth" if get("username").is_none() && get("password").is_none() => {
            errors.push(FieldError::required(&at.key("username"), ""));
            errors.push(FieldError::required(&at.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if get("ssh-privatekey").is_none_or(|v| v.0.is_empty()) => {
            errors.push(FieldError::required(&at.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if get(key).is_none() {
                    errors.push(FieldError::required(&at.key(key), ""));
                }
            }
        }
        _ => {}
    }
    errors
}

fn json_object(value: Option<&ByteString>, at: &FieldPath) -> Option<FieldError> {
    let Some(bytes) = value else {
        return Some(FieldError::required(at, ""));
    };
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes.0)
        .err()
        .map(|e| {
            let reason = format!(
                "is no JSON object (line {}, column {})",
                e.line(),
                e.column()
            );
            FieldError::invalid(at, "<secret contents redacted>", reason)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn causes(errors: Vec<FieldError>) -> Vec<String> {
        errors
            .iter()
            .map(|e| format!("{} {}", e.kind.reason(), e.field))
            .collect()
    }

    fn object<T: serde::de::DeserializeOwned>(mut body: Value) -> T {
        let mut metadata = json!({"name": "a", "namespace": "b", "resourceVersion": "1"});
        if let Some(annotations) = body.get("annotations") {
            metadata["annotations"] = annotations.clone();
        }
        body["metadata"] = metadata;
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn config_maps() {
        for (body, want) in [
            (json!({"data": {"a.b": "x"}}), vec![]),
            (
                json!({"data": {"a/b": "x"}}),
                vec!["FieldValueInvalid data[a/b]"],
            ),
            (
                json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}),
                vec!["FieldValueInvalid data[a]"],
            ),
            (
                json!({"data": {"a": "x".repeat(MAX_SIZE + 1)}}),
                vec!["FieldValueTooLong []"],
            ),
        ] {
            assert_eq!(causes(object::<ConfigMap>(body).validate()), want);
        }
        let old: ConfigMap = object(json!({"data": {"a": "x"}, "immutable": true}));
        assert_eq!(
            causes(object::<ConfigMap>(json!({"data": {"a": "y"}})).validate_update(&old)),
            ["FieldValueForbidden immutable", "FieldValueForbidden data"]
        );
    }

    #[test]
    fn secrets() {
        for (body, want) in [
            (json!({"stringData": {"a": "x"}}), vec![]),
            (
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
                vec!["FieldValueRequired data[tls.key]"],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "no"}}),
                vec!["FieldValueInvalid data[.dockerconfigjson]"],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec![
                    "FieldValueRequired data[username]",
                    "FieldValueRequired data[password]",
                ],
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                vec!["FieldValueRequired metadata.annotations[kubernetes.io/service-account.name]"],
            ),
        ] {
            let mut secret: Secret = object(body.clone());
            secret.default();
            assert_eq!(causes(secret.validate()), want, "{body}");
        }
        let mut secret: Secret =
            object(json!({"stringData": {"a": "x"}, "data": {"a": "eQ==", "b": "eQ=="}}));
        secret.default();
        let wire = serde_json::to_value(&secret).unwrap();
        assert_eq!(
            (&wire["data"], &wire["type"]),
            (&json!({"a": "eA==", "b": "eQ=="}), &json!("Opaque"))
        );
        let mut typed: Secret = object(json!({"type": "x/y"}));
        typed.default();
        assert_eq!(
            causes(typed.validate_update(&secret)),
            ["FieldValueInvalid type"]
        );
    }
}
