//! node.k8s.io in its three versions.
//!
//! v1 and v1beta1 have one shape and differ by `apiVersion` only. v1alpha1 nests under `spec` what they hold
//! at the top: `spec.runtimeHandler`, `spec.overhead`, `spec.scheduling`. Conversion is on JSON values: a
//! field that no version knows travels along untouched.

use serde_json::{Map, Value};
use thiserror::Error;

/// The API group.
pub const GROUP: &str = "node.k8s.io";

/// A version of node.k8s.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `spec.runtimeHandler`, `spec.overhead`, `spec.scheduling`.
    V1Alpha1,
    /// Shape of v1.
    V1Beta1,
    /// `handler`, `overhead`, `scheduling`; the stored version.
    V1,
}

impl Version {
    /// Every version, the oldest first.
    pub const ALL: [Self; 3] = [Self::V1Alpha1, Self::V1Beta1, Self::V1];

    /// `v1alpha1`, `v1beta1` or `v1`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "v1alpha1",
            Self::V1Beta1 => "v1beta1",
            Self::V1 => "v1",
        }
    }

    /// The value of `apiVersion`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "node.k8s.io/v1alpha1",
            Self::V1Beta1 => "node.k8s.io/v1beta1",
            Self::V1 => "node.k8s.io/v1",
        }
    }

    /// The version of an `apiVersion`: `node.k8s.io/v1`.
    #[must_use]
    pub fn parse(api_version: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|v| v.api_version() == api_version)
    }

    /// The version of a bare version name: `v1`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

/// An object that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConversionError {
    /// `apiVersion` is none of the three.
    #[error("apiVersion {0:?} is no version of node.k8s.io: want v1, v1beta1 or v1alpha1")]
    UnknownVersion(String),
    /// Not a JSON object.
    #[error("a RuntimeClass must be a JSON object")]
    NotAnObject,
    /// `spec` of a v1alpha1 object is not an object.
    #[error("spec: must be an object")]
    SpecNotAnObject,
    /// A field at the top and its counterpart in `spec` would meet.
    #[error("{0}: stands both in the object and in its spec")]
    Collision(&'static str),
}

/// `(field in v1alpha1's spec, field of v1)`.
const MOVED: [(&str, &str); 3] = [
    ("runtimeHandler", "handler"),
    ("overhead", "overhead"),
    ("scheduling", "scheduling"),
];

/// Converts an object to `to`, whichever version its `apiVersion` names; lists (`RuntimeClassList`) item by
/// item. An item of a list without `apiVersion` has the list's.
///
/// # Errors
/// See [`ConversionError`].
pub fn convert(mut object: Value, to: Version) -> Result<Value, ConversionError> {
    let map = object.as_object_mut().ok_or(ConversionError::NotAnObject)?;
    let text = map
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let from =
        Version::parse(text).ok_or_else(|| ConversionError::UnknownVersion(text.to_owned()))?;
    convert_map(map, from, to)?;
    Ok(object)
}

fn convert_map(
    map: &mut Map<String, Value>,
    from: Version,
    to: Version,
) -> Result<(), ConversionError> {
    if let Some(Value::Array(items)) = map.get_mut("items") {
        for item in items {
            let item = item.as_object_mut().ok_or(ConversionError::NotAnObject)?;
            let own = item
                .get("apiVersion")
                .and_then(Value::as_str)
                .and_then(Version::parse);
            let had_version = item.contains_key("apiVersion");
            convert_map(item, own.unwrap_or(from), to)?;
            if !had_version {
                item.remove("apiVersion");
            }
        }
    } else {
        match (from == Version::V1Alpha1, to == Version::V1Alpha1) {
            (true, false) => inline(map)?,
            (false, true) => nest(map)?,
            (true, true) | (false, false) => {}
        }
    }
    map.insert("apiVersion".to_owned(), Value::from(to.api_version()));
    Ok(())
}

/// v1alpha1 to v1: out of `spec`.
fn inline(map: &mut Map<String, Value>) -> Result<(), ConversionError> {
    let mut spec = match map.remove("spec") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(spec)) => spec,
        Some(_) => return Err(ConversionError::SpecNotAnObject),
    };
    for (inner, outer) in MOVED {
        if let Some(value) = spec.remove(inner) {
            if map.contains_key(outer) {
                return Err(ConversionError::Collision(outer));
            }
            map.insert(outer.to_owned(), value);
        }
    }
    if !spec.is_empty() {
        map.insert("spec".to_owned(), Value::Object(spec));
    }
    Ok(())
}

/// v1 to v1alpha1: into `spec`.
fn nest(map: &mut Map<String, Value>) -> Result<(), ConversionError> {
    let mut spec = match map.remove("spec") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(spec)) => spec,
        Some(_) => return Err(ConversionError::SpecNotAnObject),
    };
    for (inner, outer) in MOVED {
        if let Some(value) = map.remove(outer) {
            if spec.contains_key(inner) {
                return Err(ConversionError::Collision(outer));
            }
            spec.insert(inner.to_owned(), value);
        }
    }
    map.insert("spec".to_owned(), Value::Object(spec));
    Ok(())
}

#[cfg(test)]
mod tests;
