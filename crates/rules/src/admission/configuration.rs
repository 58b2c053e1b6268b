//! The file of `--admission-control-config-file`: what plugins are configured with. Reading it is the caller's.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// `kind: AdmissionConfiguration` of `apiserver.config.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionConfiguration {
    /// The version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// One entry a plugin.
    #[serde(default)]
    pub plugins: Vec<PluginConfiguration>,
}

/// What one plugin is configured with: inside the file, or in a file of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginConfiguration {
    /// The plugin.
    pub name: String,
    /// The file with its configuration; relative to the AdmissionConfiguration's file.
    #[serde(default)]
    pub path: String,
    /// Its configuration, which goes before `path`.
    #[serde(default)]
    pub configuration: Option<Value>,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigurationError {
    /// Not YAML or JSON of the wanted shape.
    #[error("cannot be read as {0}: {1}")]
    Malformed(&'static str, String),
    /// Another kind, or a version that is not served.
    #[error("is {found}; expected {expected}")]
    Kind {
        /// Version and kind as they were found.
        found: String,
        /// As they have to be.
        expected: &'static str,
    },
    /// Two entries for one plugin: it would be unclear which one holds.
    #[error("plugin {0:?} is configured twice")]
    Twice(String),
}

/// YAML, of which JSON is a part, as one value.
///
/// # Errors
/// [`ConfigurationError::Malformed`].
pub fn parse_value(text: &str, kind: &'static str) -> Result<Value, ConfigurationError> {
    serde_saphyr::from_str(text).map_err(|e| ConfigurationError::Malformed(kind, e.to_string()))
}

impl AdmissionConfiguration {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Text that is no AdmissionConfiguration, fields that it does not have, plugins that are named twice.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        const KIND: &str = "AdmissionConfiguration";
        let read: Self = serde_json::from_value(parse_value(text, KIND)?)
            .map_err(|e| ConfigurationError::Malformed(KIND, e.to_string()))?;
        let version = read.api_version.strip_prefix("apiserver.config.k8s.io/");
        let older = read.api_version == "apiserver.k8s.io/v1alpha1";
        if read.kind != KIND || !(older || matches!(version, Some("v1" | "v1alpha1"))) {
            return Err(ConfigurationError::Kind {
                found: format!("{}, Kind={}", read.api_version, read.kind),
                expected: "apiserver.config.k8s.io/v1, Kind=AdmissionConfiguration",
            });
        }
        let mut names = BTreeSet::new();
        for plugin in &read.plugins {
            if !names.insert(plugin.name.as_str()) {
                return Err(ConfigurationError::Twice(plugin.name.clone()));
            }
        }
        Ok(read)
    }

    /// The entry of a plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<&PluginConfiguration> {
        self.plugins.iter().find(|p| p.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
        let good = AdmissionConfiguration::parse(&format!(
            "{head}plugins:\n- name: PodSecurity\n  configuration: {{a: 1}}\n- name: X\n  path: x.yaml\n"
        ))
        .unwrap();
        assert_eq!(good.plugin("X").unwrap().path, "x.yaml");
        assert_eq!(
            good.plugin("PodSecurity").unwrap().configuration,
            Some(serde_json::json!({"a": 1}))
        );
        assert_eq!(good.plugin("Y"), None);
        for (text, want) in [
            (
                format!("{head}plugin: []"),
                "cannot be read as AdmissionConfiguration: unknown field `plugin`",
            ),
            (
                format!("{head}plugins: [{{name: a}}, {{name: a}}]"),
                "plugin \"a\" is configured twice",
            ),
            (
                "apiVersion: v1\nkind: Pod".to_owned(),
                "is v1, Kind=Pod; expected apiserver.config.k8s.io/v1",
            ),
            ("{".to_owned(), "cannot be read as AdmissionConfiguration: "),
            (String::new(), "cannot be read as AdmissionConfiguration: "),
        ] {
            let error = AdmissionConfiguration::parse(&text)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
    }
}
