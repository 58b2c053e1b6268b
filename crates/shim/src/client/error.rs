//! What can go wrong with a shim.

use std::path::PathBuf;

/// Why a call to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim's binary is missing.
    #[error("shim binary {0:?} not found: install it, or correct the handler's path")]
    MissingBinary(PathBuf),
    /// The shim's binary could not be run.
    #[error("shim {command:?} could not be run")]
    Run {
        /// The binary.
        command: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The shim's `start` or `delete` (or the keeper's `keep`) failed.
    #[error("shim {command:?} {action} failed ({status}): {stderr}")]
    Action {
        /// The binary.
        command: PathBuf,
        /// `start`, `delete` or `keep`.
        action: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// The shim's answer to `start` is in no form that we know.
    #[error("shim answered start with {0:?}, which names no address")]
    Bootstrap(String),
    /// The bundle has no note of a shim.
    #[error("no shim is recorded in bundle {bundle:?}")]
    NotRecorded {
        /// The bundle.
        bundle: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The shim can't be reached.
    #[error("shim at {address} can't be reached")]
    Connect {
        /// Its address.
        address: String,
        /// The cause.
        #[source]
        source: ttrpc::Error,
    },
    /// The connection broke: the shim has died.
    #[error("the shim went away during {method}")]
    Disconnected {
        /// The call.
        method: &'static str,
    },
    /// No such container, exec or process.
    #[error("{0}")]
    NotFound(String),
    /// It exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// Not in this state (deleting what runs, starting what has ended).
    #[error("{0}")]
    FailedPrecondition(String),
    /// The shim or its runtime can't do this.
    #[error("{0}")]
    Unimplemented(String),
    /// The shim has no sandbox service.
    #[error(
        "the shim has no sandbox service ({0}): leave out sandboxer = \"shim\" in the configuration of its handler"
    )]
    NoSandboxService(String),
    /// It failed, in the shim's or the runtime's own words.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("timed out after {0:?}")]
    Timeout(std::time::Duration),
    /// A message can't be encoded.
    #[error("message can't be encoded")]
    Encode(#[source] serde_json::Error),
    /// A message can't be decoded.
    #[error("the shim's answer to {method} can't be decoded")]
    Decode {
        /// The call.
        method: &'static str,
        /// The cause.
        #[source]
        source: protobuf::Error,
    },
    /// Metrics of a form that we don't know.
    #[error("the shim's metrics are of unknown type {0:?}")]
    UnknownMetrics(String),
    /// A file or FIFO of the container can't be used.
    #[error("{path:?} can't be used")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The stream socket failed.
    #[error("stream socket {path:?} failed")]
    Stream {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl ShimError {
    /// Whether the container or process does not exist (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether the shim has died.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected { .. } | Self::Connect { .. })
    }

    /// From a ttrpc failure; strangers put some states only into the text.
    pub(super) fn from_ttrpc(
        method: &'static str,
        error: ttrpc::Error,
        timeout: std::time::Duration,
    ) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => {
                let text = status.message().to_owned();
                match status.code() {
                    ttrpc::Code::NOT_FOUND if text.contains("is not supported") => {
                        Self::Unimplemented(text)
                    }
                    ttrpc::Code::NOT_FOUND => Self::NotFound(text),
                    ttrpc::Code::ALREADY_EXISTS => Self::AlreadyExists(text),
                    ttrpc::Code::FAILED_PRECONDITION => Self::FailedPrecondition(text),
                    ttrpc::Code::UNIMPLEMENTED => Self::Unimplemented(text),
                    ttrpc::Code::DEADLINE_EXCEEDED => Self::Timeout(timeout),
                    _ if text.contains("process already finished")
                        || text.contains("no such process") =>
                    {
                        Self::NotFound(text)
                    }
                    _ => Self::Failed(text),
                }
            }
            ttrpc::Error::RemoteClosed | ttrpc::Error::LocalClosed | ttrpc::Error::Socket(_) => {
                Self::Disconnected { method }
            }
            // How ttrpc says that the task of a connection is gone.
            ttrpc::Error::Others(text) if text.contains("channel closed") => {
                Self::Disconnected { method }
            }
            other => Self::Failed(format!("{method}: {other}")),
        }
    }
}
