//! What can go wrong behind an RPC, and the one mapping to gRPC's codes.

use std::path::PathBuf;

use berth_image::{ErrorKind, ImageError};
use berth_shim::client::ShimError;
use berth_shim::record::RecordError;
use tonic::{Code, Status};

use crate::apparmor::AppArmorError;
use crate::cni::CniError;
use crate::handlers::HandlerRefused;
use crate::held::HeldError;
use crate::known::UnknownValue;
use crate::netns::NamespaceError;

/// Why an RPC failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CriError {
    #[error("{kind} {id:?} not found")]
    NotFound { kind: &'static str, id: String },
    #[error("{kind} id {id:?} is ambiguous")]
    Ambiguous { kind: &'static str, id: String },
    #[error("{kind} name {name:?} is in use by {id}")]
    NameInUse {
        kind: &'static str,
        name: String,
        id: String,
    },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    State(String),
    #[error(
        "pod sandbox {id} lost its shim, and what the shim left could not be ended: {left}; it is tried again when the \
         pod sandbox is stopped again"
    )]
    LeftBehind { id: String, left: String },
    #[error(
        "pod sandbox {0} was not ready when the server was told to stop, and is given up: try again"
    )]
    Stopping(String),
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Handler(#[from] HandlerRefused),
    #[error(transparent)]
    UnknownValue(#[from] UnknownValue),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error(transparent)]
    Cni(#[from] CniError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Spec(#[from] berth_oci::SpecError),
    #[error(transparent)]
    AppArmor(#[from] AppArmorError),
    #[error("cannot {action} {id}")]
    Shim {
        action: &'static str,
        id: String,
        source: ShimError,
    },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("a record can't be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("too many streams are announced and not yet opened: try again in a minute")]
    TooManyStreams,
    #[error("a task of the server was lost")]
    Task(#[from] tokio::task::JoinError),
}

impl CriError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn shim(action: &'static str, id: &str) -> impl FnOnce(ShimError) -> Self {
        let id = id.to_owned();
        move |source| Self::Shim { action, id, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::NameInUse { .. } => Code::AlreadyExists,
            Self::Ambiguous { .. } | Self::Invalid(_) | Self::UnknownValue(_) | Self::Spec(_) => {
                Code::InvalidArgument
            }
            Self::Handler(HandlerRefused::Unknown { .. }) => Code::InvalidArgument,
            Self::Handler(HandlerRefused::Broken { .. }) | Self::State(_) | Self::Held(_) => {
                Code::FailedPrecondition
            }
            Self::AppArmor(error) => match error {
                AppArmorError::NotLoaded(_) | AppArmorError::NoParser => Code::FailedPrecondition,
                AppArmorError::Parser(_) | AppArmorError::Refused(_) => Code::Internal,
            },
            Self::Unsupported(_) => Code::Unimplemented,
            Self::Cni(CniError::NoNetwork { .. }) => Code::FailedPrecondition,
            Self::Cni(CniError::Timeout { .. }) => Code::DeadlineExceeded,
            Self::Cni(_) => Code::Internal,
            Self::Namespace(error) => match error {
                NamespaceError::SysctlNotNamespaced(_)
                | NamespaceError::SysctlName(_)
                | NamespaceError::Sysctl { .. } => Code::InvalidArgument,
                NamespaceError::Unshare(_)
                | NamespaceError::Map(_)
                | NamespaceError::Pin { .. }
                | NamespaceError::Hostname { .. }
                | NamespaceError::Loopback(_)
                | NamespaceError::Enter { .. }
                | NamespaceError::Thread => Code::Internal,
            },
            Self::Image(error) => match error.kind() {
                ErrorKind::Invalid => Code::InvalidArgument,
                ErrorKind::NotFound => Code::NotFound,
                ErrorKind::Exists => Code::AlreadyExists,
                ErrorKind::Denied => Code::PermissionDenied,
                ErrorKind::Unavailable => Code::Unavailable,
                ErrorKind::Exhausted => Code::ResourceExhausted,
                ErrorKind::Corrupt => Code::FailedPrecondition,
                ErrorKind::Cancelled => Code::Cancelled,
                ErrorKind::Internal => Code::Internal,
            },
            Self::Shim { source, .. } => match source {
                ShimError::NotFound(_) => Code::NotFound,
                ShimError::AlreadyExists(_) => Code::AlreadyExists,
                ShimError::FailedPrecondition(_) => Code::FailedPrecondition,
                ShimError::Unimplemented(_) | ShimError::NoSandboxService(_) => Code::Unimplemented,
                ShimError::Timeout(_) => Code::DeadlineExceeded,
                ShimError::Connect { .. } | ShimError::Disconnected { .. } => Code::Unavailable,
                _ => Code::Unknown,
            },
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Code::ResourceExhausted
            }
            Self::TooManyStreams => Code::ResourceExhausted,
            Self::Stopping(_) => Code::Unavailable,
            Self::LeftBehind { .. }
            | Self::Io { .. }
            | Self::Json(_)
            | Self::Record(_)
            | Self::Task(_) => Code::Internal,
        }
    }
}

impl From<CriError> for Status {
    fn from(error: CriError) -> Self {
        Status::new(error.code(), chain(&error))
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // A transparent wrapper's source repeats it.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
