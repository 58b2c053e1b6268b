//! What can go wrong, in words that name the container.

use std::path::{Path, PathBuf};

use libcontainer::container::ContainerStatus;
use libcontainer::error::LibcontainerError;

use crate::devices::DeviceError;
use crate::words;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "container id {0:?} is not made of letters, digits and _+-. only, or begins with a dot"
    )]
    Id(String),
    #[error("container {0:?} already exists")]
    Exists(String),
    #[error("container {0:?} does not exist")]
    Missing(String),
    #[error("cannot {verb} container {id:?}: it is {status}")]
    State {
        verb: &'static str,
        id: String,
        status: ContainerStatus,
    },
    #[error("container {0:?} is not running")]
    NotRunning(String),
    #[error("cannot {verb} {}", path.display())]
    File {
        verb: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not understood", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the spec of {} is not understood", path.display())]
    Spec {
        path: PathBuf,
        source: oci_spec::OciSpecError,
    },
    #[error("the spec has no {0}")]
    Absent(&'static str),
    #[error("{0}")]
    Unsupported(String),
    #[error("cannot {verb} container {id:?}")]
    Container {
        verb: &'static str,
        id: String,
        source: LibcontainerError,
    },
    #[error("cgroup of container {id:?}: {message}")]
    Cgroup { id: String, message: String },
    #[error("container {id:?}")]
    Devices { id: String, source: DeviceError },
    #[error("the creation of container {0:?} was cut short; delete it")]
    Unfinished(String),
    #[error("seccomp filter")]
    Seccomp(#[source] libseccomp::error::SeccompError),
    #[error("{0}")]
    Start(String),
    #[error("signal {0:?} is not known")]
    Signal(String),
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
}

impl Error {
    /// Wraps an I/O error with what was done to which file.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }

    /// Wraps an error about devices with whose they are.
    pub(crate) fn devices(id: &str) -> impl FnOnce(DeviceError) -> Self {
        let id = id.to_owned();
        move |source| Self::Devices { id, source }
    }

    /// It is libcontainer's, which may have told its log more.
    pub(crate) fn is_of_container(&self) -> bool {
        matches!(self, Self::Container { .. })
    }

    /// The error and its causes in one line, each told once.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words::add(&mut text, &error.to_string());
            cause = error.source();
        }
        words::plain(&text)
    }
}
