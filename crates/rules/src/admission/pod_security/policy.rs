//! Levels, versions, and the policy that the labels of a namespace ask for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use berth_api::field::{FieldError, FieldPath};

/// Label of the level that pods must meet.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// Label of the version of [`ENFORCE`].
pub const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
/// Label of the level whose violations are written to the audit log.
pub const AUDIT: &str = "pod-security.kubernetes.io/audit";
/// Label of the version of [`AUDIT`].
pub const AUDIT_VERSION: &str = "pod-security.kubernetes.io/audit-version";
/// Label of the level whose violations are answered with a warning.
pub const WARN: &str = "pod-security.kubernetes.io/warn";
/// Label of the version of [`WARN`].
pub const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";

/// A level of the Pod Security Standards; a greater one is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything is allowed.
    Privileged,
    /// Known privilege escalations are refused.
    Baseline,
    /// Hardening as it is current practice is demanded.
    Restricted,
}

/// A level or version that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the name of a level.
    #[error("must be one of privileged, baseline, restricted")]
    Level,
    /// Not a version.
    #[error("must be \"latest\" or \"v1.x\"")]
    Version,
}

impl FromStr for Level {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err(PolicyError::Level),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// The release of Kubernetes whose standards hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.N`.
    Minor(u64),
    /// The newest that this server knows.
    Latest,
}

impl Version {
    /// Whether the standards of `v1.minor` are part of this version.
    #[must_use]
    pub fn includes(self, minor: u64) -> bool {
        match self {
            Self::Minor(own) => minor <= own,
            Self::Latest => true,
        }
    }
}

impl FromStr for Version {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(PolicyError::Version)?;
        let plain = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        match digits.parse() {
            Ok(minor) if plain => Ok(Self::Minor(minor)),
            Ok(_) | Err(_) => Err(PolicyError::Version),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The version of the level.
    pub version: Version,
}

impl LevelVersion {
    /// What holds where nothing else is said.
    pub const PRIVILEGED: Self = Self {
        level: Level::Privileged,
        version: Version::Latest,
    };

    /// Whether both demand the same: all versions of `privileged` demand nothing.
    #[must_use]
    pub fn is_equivalent(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// The three modes of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Violations are refused.
    pub enforce: LevelVersion,
    /// Violations are written to the audit log.
    pub audit: LevelVersion,
    /// Violations are answered with a warning.
    pub warn: LevelVersion,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enforce: LevelVersion::PRIVILEGED,
            audit: LevelVersion::PRIVILEGED,
            warn: LevelVersion::PRIVILEGED,
        }
    }
}

impl Policy {
    /// Whether no mode demands anything.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }

    /// Whether both demand the same in every mode.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.enforce.is_equivalent(other.enforce)
            && self.audit.is_equivalent(other.audit)
            && self.warn.is_equivalent(other.warn)
    }

    /// The policy of a namespace with these labels, and what is wrong with them. There is a policy in any case: a level
    /// that cannot be read enforces `restricted`, a version that cannot be read is the latest. Audit and warn, which
    /// refuse nothing, are off where their level cannot be read, as in the stock plugin.
    #[must_use]
    pub fn of_labels(
        labels: Option<&BTreeMap<String, String>>,
        defaults: &Self,
    ) -> (Self, Vec<FieldError>) {
        let mut policy = *defaults;
        let mut errors = Vec::new();
        let label = |name: &str| labels.and_then(|l| l.get(name)).map(String::as_str);
        let enforce = read(label(ENFORCE), ENFORCE, Level::Restricted, &mut errors);
        if let Some((level, _)) = enforce {
            policy.enforce.level = level;
        }
        read_version(
            label(ENFORCE_VERSION),
            ENFORCE_VERSION,
            &mut policy.enforce,
            &mut errors,
        );
        if let Some((level, _)) = read(label(AUDIT), AUDIT, Level::Privileged, &mut errors) {
            policy.audit.level = level;
        }
        read_version(
            label(AUDIT_VERSION),
            AUDIT_VERSION,
            &mut policy.audit,
            &mut errors,
        );
        let warn = read(label(WARN), WARN, Level::Privileged, &mut errors);
        if let Some((level, _)) = warn {
            policy.warn.level = level;
        }
        read_version(
            label(WARN_VERSION),
            WARN_VERSION,
            &mut policy.warn,
            &mut errors,
        );
        // Who enforces a level is warned of its violations (by controllers, which enforcement does not reach).
        if let (None, Some((level, true))) = (warn, enforce)
            && level > policy.warn.level
        {
            policy.warn.level = level;
            if label(WARN_VERSION).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// A level of a label that is there, and whether it could be read.
fn read(
    value: Option<&str>,
    label: &str,
    unreadable: Level,
    errors: &mut Vec<FieldError>,
) -> Option<(Level, bool)> {
    let value = value?;
    Some(match value.parse() {
        Ok(level) => (level, true),
        Err(error) => {
            errors.push(wrong(label, value, error));
            (unreadable, false)
        }
    })
}

fn read_version(
    value: Option<&str>,
    label: &str,
    mode: &mut LevelVersion,
    errors: &mut Vec<FieldError>,
) {
    let Some(value) = value else {
        return;
    };
    mode.version = value.parse().unwrap_or_else(|error| {
        errors.push(wrong(label, value, error));
        Version::Latest
    });
}

fn wrong(label: &str, value: &str, error: PolicyError) -> FieldError {
    let at = FieldPath::new("metadata.labels").key(label);
    FieldError::invalid(&at, value, error.to_string())
}
