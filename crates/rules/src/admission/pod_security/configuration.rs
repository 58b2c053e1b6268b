//! The PodSecurityConfiguration of an AdmissionConfiguration file: defaults of namespaces without labels, exemptions.

use std::collections::BTreeSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use serde::Deserialize;
use serde_json::Value;

use super::policy::{Level, LevelVersion, Policy, PolicyError, Version};
use crate::admission::configuration::ConfigurationError;

const GROUP: &str = "pod-security.admission.config.k8s.io/";
const KIND: &str = "PodSecurityConfiguration";

/// `kind: PodSecurityConfiguration` of `pod-security.admission.config.k8s.io/v1` (`v1beta1`, `v1alpha1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSecurityConfiguration {
    /// The version.
    #[serde(default)]
    pub api_version: String,
    /// The kind.
    #[serde(default)]
    pub kind: String,
    /// What holds where a namespace has no label.
    #[serde(default)]
    pub defaults: PodSecurityDefaults,
    /// To what nothing applies.
    #[serde(default)]
    pub exemptions: PodSecurityExemptions,
}

/// Levels and versions of namespaces that set no label; empty is `privileged` and `latest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodSecurityDefaults {
    /// The level that is enforced.
    #[serde(default)]
    pub enforce: String,
    /// Its version.
    #[serde(default)]
    pub enforce_version: String,
    /// The level that is audited.
    #[serde(default)]
    pub audit: String,
    /// Its version.
    #[serde(default)]
    pub audit_version: String,
    /// The level that is warned of.
    #[serde(default)]
    pub warn: String,
    /// Its version.
    #[serde(default)]
    pub warn_version: String,
}

/// What is admitted without evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSecurityExemptions {
    /// Users whose requests are exempt.
    #[serde(default)]
    pub usernames: Vec<String>,
    /// Namespaces that are exempt.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Pods of these RuntimeClasses are exempt.
    #[serde(default)]
    pub runtime_classes: Vec<String>,
}

/// Name of a list of exemptions, its entries, and what is wrong with an entry.
type ExemptionList<'a> = (&'static str, &'a [String], fn(&str) -> Vec<String>);

impl PodSecurityConfiguration {
    /// Reads the `configuration` of the plugin, or the file that its `path` names.
    ///
    /// # Errors
    /// An object of another kind or version, and fields that the kind does not have.
    pub fn from_value(value: Value) -> Result<Self, ConfigurationError> {
        let read: Self = serde_json::from_value(value)
            .map_err(|e| ConfigurationError::Malformed(KIND, e.to_string()))?;
        let version = read.api_version.strip_prefix(GROUP);
        if read.kind != KIND || !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
            return Err(ConfigurationError::Kind {
                found: format!("{}, Kind={}", read.api_version, read.kind),
                expected: "pod-security.admission.config.k8s.io/v1, Kind=PodSecurityConfiguration",
            });
        }
        Ok(read)
    }

    /// Everything wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let defaults = FieldPath::new("defaults");
        let own = &self.defaults;
        for (name, level, version) in [
            ("enforce", &own.enforce, &own.enforce_version),
            ("warn", &own.warn, &own.warn_version),
            ("audit", &own.audit, &own.audit_version),
        ] {
            if let Err(error) = read_level(level) {
                errors.push(FieldError::invalid(
                    &defaults.child(name),
                    level,
                    error.to_string(),
                ));
            }
            if let Err(error) = read_version(version) {
                let at = defaults.child(&format!("{name}-version"));
                errors.push(FieldError::invalid(&at, version, error.to_string()));
            }
        }
        let exempt = FieldPath::new("exemptions");
        let lists: [ExemptionList<'_>; 3] = [
            (
                "namespaces",
                &self.exemptions.namespaces,
                names::dns1123_label,
            ),
            (
                "runtimeClasses",
                &self.exemptions.runtime_classes,
                names::dns1123_subdomain,
            ),
            ("usernames", &self.exemptions.usernames, user_name),
        ];
        for (name, list, rule) in lists {
            let mut seen = BTreeSet::new();
            for (i, item) in list.iter().enumerate() {
                let at = exempt.child(name).index(i);
                let complaints = rule(item);
                if !complaints.is_empty() {
                    errors.push(FieldError::invalid(&at, item, complaints.join(", ")));
                } else if !seen.insert(item) {
                    errors.push(FieldError::duplicate(&at, item));
                }
            }
        }
        errors
    }

    /// The policy of namespaces without labels.
    ///
    /// # Errors
    /// What [`validate`](Self::validate) says.
    pub fn policy(&self) -> Result<Policy, Vec<FieldError>> {
        let errors = self.validate();
        if !errors.is_empty() {
            return Err(errors);
        }
        let own = &self.defaults;
        let mode = |level: &str, version: &str| -> Result<LevelVersion, PolicyError> {
            Ok(LevelVersion {
                level: read_level(level)?,
                version: read_version(version)?,
            })
        };
        let at = FieldPath::new("defaults");
        let wrong = |e: PolicyError| vec![FieldError::invalid(&at, "", e.to_string())];
        Ok(Policy {
            enforce: mode(&own.enforce, &own.enforce_version).map_err(wrong)?,
            audit: mode(&own.audit, &own.audit_version).map_err(wrong)?,
            warn: mode(&own.warn, &own.warn_version).map_err(wrong)?,
        })
    }
}

fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        vec!["username must not be empty".to_owned()]
    } else {
        Vec::new()
    }
}

fn read_level(text: &str) -> Result<Level, PolicyError> {
    if text.is_empty() {
        return Ok(Level::Privileged);
    }
    text.parse()
}

fn read_version(text: &str) -> Result<Version, PolicyError> {
    if text.is_empty() {
        return Ok(Version::Latest);
    }
    text.parse()
}
