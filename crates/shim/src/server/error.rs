//! What the shim answers when it can't do something.

use std::path::PathBuf;

/// Why a call failed. The Display text is what the caller's user reads.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("container {0:?} not found")]
    NoContainer(String),
    #[error("process {exec_id:?} of container {id:?} not found")]
    NoProcess { id: String, exec_id: String },
    #[error("process of container {0:?} has already finished: not found")]
    Finished(String),
    #[error("{0:?} already exists")]
    Exists(String),
    #[error("container {id:?} is {state}, can't {verb} it")]
    State {
        id: String,
        state: &'static str,
        verb: &'static str,
    },
    #[error("runtime binary {0:?} not found: install it, or correct the handler's path")]
    MissingBinary(PathBuf),
    #[error("runtime {binary:?} can't be run: {source}")]
    Spawn {
        binary: PathBuf,
        source: std::io::Error,
    },
    #[error("{binary} {verb} failed: {message}")]
    Runtime {
        binary: String,
        verb: String,
        message: String,
    },
    #[error("{binary} {verb} gave no answer within {seconds} s and was killed")]
    RuntimeTimeout {
        binary: String,
        verb: String,
        seconds: u64,
    },
    #[error("options of type {0:?} are not understood by this shim")]
    Options(String),
    #[error("{what} is malformed: {source}")]
    Malformed {
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("{what} {path:?}: {source}")]
    File {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{}", .0.with_source())]
    Record(#[from] crate::record::RecordError),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(super) fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    pub(super) fn errno(what: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |e| Self::Io {
            what,
            source: e.into(),
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        use ttrpc::Code;
        let code = match &error {
            Error::NoContainer(_) | Error::NoProcess { .. } | Error::Finished(_) => Code::NOT_FOUND,
            Error::Exists(_) => Code::ALREADY_EXISTS,
            Error::State { .. } => Code::FAILED_PRECONDITION,
            Error::Unsupported(_) => Code::UNIMPLEMENTED,
            Error::Options(_) | Error::Malformed { .. } | Error::Invalid(_) => {
                Code::INVALID_ARGUMENT
            }
            Error::RuntimeTimeout { .. } => Code::DEADLINE_EXCEEDED,
            Error::MissingBinary(_)
            | Error::Spawn { .. }
            | Error::Runtime { .. }
            | Error::Record(_)
            | Error::File { .. }
            | Error::Io { .. } => Code::UNKNOWN,
        };
        Self::RpcStatus(ttrpc::get_status(code, error))
    }
}
