//! Where a process' streams go, as written into the `stdin`, `stdout` and `stderr` fields of the task service.
//!
//! Strangers' shims (and strangers driving ours) use paths of FIFOs. Between berth's client and berth's shim:
//!
//! * `stdout = "berth+log:///var/log/pods/.../0.log"`: the shim itself writes stdout and stderr to this file in
//!   the CRI's log format, and serves attach on its stream socket; without a path there is no log;
//! * `stdout = "berth+stream:"`: the streams (of an exec) run over the stream socket to the one client that
//!   claims them before the start, and wait for it when it is slow;
//! * `stdin = "berth+stream:"` or `"berth+stream:once"`: stdin is fed from the stream socket; `once` closes it
//!   when the first client that wrote to it leaves.

use std::path::{Path, PathBuf};

const LOG: &str = "berth+log://";
const STREAM: &str = "berth+stream:";
const STREAM_ONCE: &str = "berth+stream:once";

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// A CRI log file (if any) and whoever attaches.
    Log(Option<PathBuf>),
    /// The client that claims the streams.
    Stream,
    /// A FIFO, opened for writing.
    Fifo(PathBuf),
    /// A plain file, appended to.
    File(PathBuf),
}

impl Output {
    /// Parses a `stdout` or `stderr` field.
    #[must_use]
    pub fn parse(field: &str) -> Self {
        if field.is_empty() {
            Self::Null
        } else if let Some(path) = field.strip_prefix(LOG) {
            Self::Log((!path.is_empty()).then(|| PathBuf::from(path)))
        } else if field == STREAM {
            Self::Stream
        } else if let Some(path) = field.strip_prefix("file://") {
            Self::File(PathBuf::from(path))
        } else {
            Self::Fifo(PathBuf::from(
                field.strip_prefix("fifo://").unwrap_or(field),
            ))
        }
    }

    /// The field for a log file.
    #[must_use]
    pub fn log_uri(path: Option<&Path>) -> String {
        format!(
            "{LOG}{}",
            path.map(Path::to_string_lossy).unwrap_or_default()
        )
    }

    /// The field for claimed streams.
    #[must_use]
    pub fn stream_uri() -> String {
        STREAM.to_owned()
    }
}

/// Where input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nowhere: /dev/null.
    Null,
    /// Clients of the stream socket.
    Stream {
        /// Close it when the first writer leaves.
        once: bool,
    },
    /// A FIFO, opened for reading.
    Fifo(PathBuf),
}

impl Input {
    /// Parses a `stdin` field.
    #[must_use]
    pub fn parse(field: &str) -> Self {
        match field {
            "" => Self::Null,
            STREAM => Self::Stream { once: false },
            STREAM_ONCE => Self::Stream { once: true },
            path => Self::Fifo(PathBuf::from(path.strip_prefix("fifo://").unwrap_or(path))),
        }
    }

    /// The field for fed stdin.
    #[must_use]
    pub fn stream_uri(once: bool) -> String {
        if once { STREAM_ONCE } else { STREAM }.to_owned()
    }
}

/// The path of the stream socket that belongs to a shim's address (`unix:///path` gives `/path.io`).
#[must_use]
pub fn stream_socket(address: &str) -> PathBuf {
    PathBuf::from(format!(
        "{}.io",
        address.strip_prefix("unix://").unwrap_or(address)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_round_trip() {
        let log = Path::new("/var/log/pods/a b/0.log");
        assert_eq!(
            Output::parse(&Output::log_uri(Some(log))),
            Output::Log(Some(log.to_owned()))
        );
        assert_eq!(Output::parse(&Output::log_uri(None)), Output::Log(None));
        assert_eq!(Output::parse(&Output::stream_uri()), Output::Stream);
        assert_eq!(Output::parse("/run/fifo"), Output::Fifo("/run/fifo".into()));
        assert_eq!(
            Input::parse(&Input::stream_uri(true)),
            Input::Stream { once: true }
        );
        assert_eq!(
            Input::parse(&Input::stream_uri(false)),
            Input::Stream { once: false }
        );
    }
}
