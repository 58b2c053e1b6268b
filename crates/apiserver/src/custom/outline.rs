//! What the task that follows the definitions keeps of each.

use std::ops::Deref;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Deserialize, Deserializer};

/// A definition without the schemas of its versions. Decoded, those are many times as large as the text, and they are
/// needed only when a row is made.
pub(super) struct Outline(CustomResourceDefinition);

impl Deref for Outline {
    type Target = CustomResourceDefinition;

    fn deref(&self) -> &CustomResourceDefinition {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut definition = CustomResourceDefinition::deserialize(deserializer)?;
        for version in &mut definition.spec.versions {
            version.schema = None;
        }
        Ok(Self(definition))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Outline;

    #[test]
    fn an_outline_has_everything_but_schemas() {
        let version = json!({"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}});
        let text = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com", "generation": 3},
            "spec": {"group": "example.com", "scope": "Namespaced", "versions": [version],
                "names": {"plural": "things", "kind": "Thing"}}});
        let outline: Outline = serde_json::from_value(text).unwrap();
        assert_eq!(outline.metadata.generation, Some(3));
        assert_eq!(outline.spec.names.kind, "Thing");
        assert_eq!(outline.spec.versions[0].name, "v1");
        assert!(outline.spec.versions[0].schema.is_none());
    }
}
