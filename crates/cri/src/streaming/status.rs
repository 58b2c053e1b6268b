//! How a command's end is told on the error stream.

use serde_json::{Value, json};

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Exited(u32),
    /// It could not be run or was lost.
    Failed(String),
}

impl End {
    /// What goes on the error stream, `None` for nothing.
    ///
    /// From version 4 of the protocol on it is a `Status` of Kubernetes' API; before, it is text.
    pub(super) fn message(&self, as_status: bool) -> Option<Vec<u8>> {
        if as_status {
            return Some(self.status().to_string().into_bytes());
        }
        match self {
            Self::Exited(0) => None,
            Self::Exited(code) => Some(exited(*code).into_bytes()),
            Self::Failed(reason) => Some(reason.clone().into_bytes()),
        }
    }

    fn status(&self) -> Value {
        match self {
            Self::Exited(0) => json!({ "metadata": {}, "status": "Success" }),
            Self::Exited(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": exited(*code),
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(reason) => json!({
                "metadata": {},
                "status": "Failure",
                "message": reason,
                "reason": "InternalError",
                "details": { "causes": [{ "message": reason }] },
                "code": 500,
            }),
        }
    }
}

fn exited(code: u32) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}
