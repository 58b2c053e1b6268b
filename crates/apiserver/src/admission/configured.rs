//! What plugins are configured with, by the file of `--admission-control-config-file`.

use std::fs;
use std::path::{Path, PathBuf};

use berth_api::field::aggregate;
use berth_rules::admission::configuration::{
    AdmissionConfiguration, ConfigurationError, parse_value,
};
use berth_rules::admission::pod_security::{PodSecurity, PodSecurityConfiguration};

const POD_SECURITY: &str = "PodSecurity";

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("the admission configuration {path} cannot be read", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the admission configuration {path} {why}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: ConfigurationError,
    },
    /// The configuration of a plugin has wrong fields.
    #[error("the configuration of plugin {plugin:?} in {path} is invalid: {errors}", path = .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The plugin.
        plugin: String,
        /// All that is wrong.
        errors: String,
    },
    /// A plugin that has nothing to configure: its entry would have no effect.
    #[error("the admission configuration {path} configures plugin {plugin:?}, which takes no configuration here; remove the entry (configurable is: PodSecurity)", path = .path.display())]
    NotConfigurable {
        /// The file.
        path: PathBuf,
        /// The plugin.
        plugin: String,
    },
}

fn text(path: &Path) -> Result<String, ConfigFileError> {
    fs::read_to_string(path).map_err(|source| ConfigFileError::Read {
        path: path.to_owned(),
        source,
    })
}

/// PodSecurity as the file configures it, with its defaults where there is no file or no entry.
///
/// # Errors
/// Whatever in the file would have no effect or another one than its writer meant.
pub(crate) fn pod_security(file: Option<&Path>) -> Result<PodSecurity, ConfigFileError> {
    let Some(path) = file else {
        return Ok(PodSecurity::default());
    };
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |why| ConfigFileError::Content { path, why }
    };
    let whole = AdmissionConfiguration::parse(&text(path)?).map_err(wrong(path))?;
    if let Some(other) = whole.plugins.iter().find(|p| p.name != POD_SECURITY) {
        return Err(ConfigFileError::NotConfigurable {
            path: path.to_owned(),
            plugin: other.name.clone(),
        });
    }
    let Some(entry) = whole.plugin(POD_SECURITY) else {
        return Ok(PodSecurity::default());
    };
    let (value, from) = match &entry.configuration {
        Some(value) => (value.clone(), path.to_owned()),
        None if entry.path.is_empty() => return Ok(PodSecurity::default()),
        None => {
            let own = path.parent().unwrap_or(Path::new("")).join(&entry.path);
            let value =
                parse_value(&text(&own)?, "PodSecurityConfiguration").map_err(wrong(&own))?;
            (value, own)
        }
    };
    let configuration = PodSecurityConfiguration::from_value(value).map_err(wrong(&from))?;
    PodSecurity::new(configuration).map_err(|errors| ConfigFileError::Invalid {
        path: from,
        plugin: POD_SECURITY.to_owned(),
        errors: aggregate(&errors),
    })
}
