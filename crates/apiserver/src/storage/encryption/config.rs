//! The file: `kind: EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, as the stock server reads it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::sealing::{Method, NamedKey};
use super::{Provider, Transformer};

const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionConfigError {
    /// Not YAML or JSON of the wanted shape.
    #[error("cannot be read as EncryptionConfiguration: {0}")]
    Malformed(String),
    /// Another kind, or a version that is not served.
    #[error("is {0}; expected apiserver.config.k8s.io/v1, Kind=EncryptionConfiguration")]
    Kind(String),
    /// A field has a wrong value.
    #[error("{path}: {why}")]
    Field {
        /// Where.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Nothing>,
    kms: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

/// Which resources an entry takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mask {
    /// None takes every group.
    group: Option<String>,
    /// None takes every resource.
    plural: Option<String>,
}

impl Mask {
    /// `PLURAL`, `PLURAL.GROUP`, `*.` (the core group), `*.GROUP` or `*.*`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (plural, group) = text.split_once('.').unwrap_or((text, ""));
        let plain = |part: &str| {
            part.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
            })
        };
        if text == "*" {
            return Err("use '*.' for all resources of the core group, '*.*' for all resources");
        }
        if plural.contains('/') || group.contains('/') {
            return Err("subresources are not stored by themselves; name the resource");
        }
        if plural.is_empty() {
            return Err("must name a resource");
        }
        let wild_group = group == "*";
        if wild_group && plural != "*" {
            return Err("a wildcard for the group needs one for the resource: '*.*'");
        }
        if !(wild_group || plain(group)) || !(plural == "*" || plain(plural)) {
            return Err(
                "must be a resource in lower case and its group, e.g. secrets or deployments.apps",
            );
        }
        if group == "events.k8s.io" {
            return Err("events are stored in the core group; use 'events'");
        }
        Ok(Self {
            group: (!wild_group).then(|| group.to_owned()),
            plural: (plural != "*").then(|| plural.to_owned()),
        })
    }

    pub(super) fn takes(&self, group: &str, plural: &str) -> bool {
        self.group.as_deref().is_none_or(|of| of == group)
            && self.plural.as_deref().is_none_or(|of| of == plural)
    }

    /// Whether it takes all that another does.
    fn covers(&self, other: &Self) -> bool {
        (self.group.is_none() || self.group == other.group)
            && (self.plural.is_none() || self.plural == other.plural)
    }

    pub(super) fn core_resource(&self) -> Option<&str> {
        let core = self.group.as_deref() == Some("");
        self.plural.as_deref().filter(|_| core)
    }
}

fn wrong(path: impl Into<String>, why: impl Into<String>) -> EncryptionConfigError {
    EncryptionConfigError::Field {
        path: path.into(),
        why: why.into(),
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<(Mask, Arc<Transformer>)>, EncryptionConfigError> {
    let malformed = |error: String| EncryptionConfigError::Malformed(error);
    let value: Value = serde_saphyr::from_str(text).map_err(|e| malformed(e.to_string()))?;
    let text_of = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text_of("apiVersion"), text_of("kind"));
    if version != API_VERSION || kind != KIND {
        return Err(EncryptionConfigError::Kind(format!(
            "{version:?}, Kind={kind:?}"
        )));
    }
    let file: File = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
    debug_assert!(file.api_version == API_VERSION && file.kind == KIND);
    if file.resources.is_empty() {
        return Err(wrong("resources", "must name at least one resource"));
    }
    let mut rules: Vec<(Mask, Arc<Transformer>)> = Vec::new();
    for (n, entry) in file.resources.iter().enumerate() {
        let at = format!("resources[{n}]");
        if entry.resources.is_empty() {
            return Err(wrong(format!("{at}.resources"), "must name a resource"));
        }
        let transformer = Arc::new(transformer(&at, &entry.providers)?);
        for (m, text) in entry.resources.iter().enumerate() {
            let path = format!("{at}.resources[{m}]");
            let mask =
                Mask::parse(text).map_err(|why| wrong(&*path, format!("{text:?}: {why}")))?;
            if rules.iter().any(|(earlier, _)| earlier.covers(&mask)) {
                let why = format!("{text:?} has no effect: an earlier entry takes it already");
                return Err(wrong(path, why));
            }
            rules.push((mask, Arc::clone(&transformer)));
        }
    }
    Ok(rules)
}

fn transformer(at: &str, entries: &[ProviderEntry]) -> Result<Transformer, EncryptionConfigError> {
    if entries.is_empty() {
        return Err(wrong(
            format!("{at}.providers"),
            "must have a provider; identity stores as it is",
        ));
    }
    let mut providers = Vec::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let path = format!("{at}.providers[{n}]");
        let sealing = [
            (Method::AesGcm, &entry.aesgcm),
            (Method::AesCbc, &entry.aescbc),
            (Method::Secretbox, &entry.secretbox),
        ];
        let named = sealing.iter().filter(|(_, keys)| keys.is_some()).count()
            + usize::from(entry.identity.is_some())
            + usize::from(entry.kms.is_some());
        if named != 1 {
            let why = "must be exactly one of aesgcm, aescbc, secretbox and identity";
            return Err(wrong(path, why));
        }
        if entry.kms.is_some() {
            let why =
                "key management services are not reached by this server; use aesgcm or secretbox";
            return Err(wrong(format!("{path}.kms"), why));
        }
        let provider = sealing
            .iter()
            .find_map(|(method, keys)| keys.as_ref().map(|keys| (*method, keys)));
        providers.push(match provider {
            None => Provider::Identity,
            Some((method, keys)) => Provider::Sealed {
                prefix: format!("k8s:enc:{}:v1:", method.name()),
                keys: named_keys(&format!("{path}.{}", method.name()), method, keys)?,
            },
        });
    }
    Ok(Transformer { providers })
}

fn named_keys(
    at: &str,
    method: Method,
    given: &Keys,
) -> Result<Vec<NamedKey>, EncryptionConfigError> {
    if given.keys.is_empty() {
        return Err(wrong(format!("{at}.keys"), "must have a key"));
    }
    let mut keys: Vec<NamedKey> = Vec::with_capacity(given.keys.len());
    for (n, key) in given.keys.iter().enumerate() {
        let path = format!("{at}.keys[{n}]");
        let odd = |c: char| c == ':' || c.is_whitespace() || c.is_control();
        if key.name.is_empty() || key.name.contains(odd) {
            let why = "must be a name without colons and spaces";
            return Err(wrong(format!("{path}.name"), why));
        }
        if keys.iter().any(|other| other.name == key.name) {
            let why = format!("{:?} is the name of another key of this provider", key.name);
            return Err(wrong(format!("{path}.name"), why));
        }
        let secret = STANDARD
            .decode(key.secret.trim())
            .map_err(|_| wrong(format!("{path}.secret"), "must be base64"))?;
        let named = method.key(&key.name, &secret).ok_or_else(|| {
            let lengths = method.key_lengths();
            let why = format!("has {} bytes; must have one of {lengths:?}", secret.len());
            wrong(format!("{path}.secret"), why)
        })?;
        keys.push(named);
    }
    Ok(keys)
}
