//! The audit log: who asked for what, when, and what became of it, as the policy of `--audit-policy-file` says.
//!
//! | file | what it does |
//! |---|---|
//! | [`policy`] | the policy, and which level a request has by it |
//! | [`entry`] | one request: what is found out about it on its way, and its events |
//! | [`reading`] | what the head and the bodies of a request say |
//! | [`event`] | an event as `audit.k8s.io/v1` JSON |
//! | [`sink`] | the queue to the one thread that writes, and what happens when it is full |
//! | [`file`] | the file, its rotation, and what a full disk does |
//!
//! Without a policy there is no [`Auditor`], and a request carries an empty [`Trail`].
//!
//! An event is never lost in silence: one that could not be written or queued is counted in
//! `apiserver_audit_error_total` and logged. With `blocking-strict`, a request whose first event could not be written is
//! refused before anything is done.

mod entry;
mod event;
mod file;
mod policy;
mod reading;
mod sink;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::registry::Registry;

use self::file::LogFile;
use self::policy::Policy;
use self::sink::{Measures, Sink};

pub(crate) use entry::{Connected, Open, Trail};
pub use policy::PolicyError;
pub(crate) use reading::Asking;

/// The header by which a client knows the events of its request.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Characters of an ID that a client may choose.
const MAX_ID: usize = 64;
/// How long events that are queued may take to be written when the server ends.
const END: Duration = Duration::from_secs(5);

/// What a request does when its event cannot be written (`--audit-log-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditMode {
    /// It waits until its events are written; when they can't be, it goes on.
    #[default]
    Blocking,
    /// The same, but it is refused when its first event can't be written.
    BlockingStrict,
    /// It does not wait; events that find no room in the queue are dropped and counted.
    Batch,
}

impl std::str::FromStr for AuditMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            "batch" => Ok(Self::Batch),
            other => Err(format!(
                "invalid audit log mode {other}, allowed modes are \"batch,blocking,blocking-strict\""
            )),
        }
    }
}

/// The `--audit-*` flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// `--audit-policy-file`.
    pub policy_file: PathBuf,
    /// `--audit-log-path`; `-` is the standard output.
    pub log_path: PathBuf,
    /// `--audit-log-maxage`: days that rotated files are kept; 0 keeps them whatever their age.
    pub max_age_days: u32,
    /// `--audit-log-maxbackup`: rotated files that are kept; 0 keeps all.
    pub max_backups: u32,
    /// `--audit-log-maxsize`: megabytes of the file before it is rotated; 0 means 100.
    pub max_size_megabytes: u32,
    /// `--audit-log-mode`.
    pub mode: AuditMode,
}

impl AuditConfig {
    /// A configuration with stock defaults.
    #[must_use]
    pub fn new(policy_file: impl Into<PathBuf>, log_path: impl Into<PathBuf>) -> Self {
        Self {
            policy_file: policy_file.into(),
            log_path: log_path.into(),
            max_age_days: 0,
            max_backups: 0,
            max_size_megabytes: 0,
            mode: AuditMode::default(),
        }
    }
}

/// Why the audit log cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy cannot be read.
    #[error("--audit-policy-file: failed to read file path {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy cannot be used.
    #[error("--audit-policy-file: {path:?}: {why}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: PolicyError,
    },
    /// The log cannot be opened.
    #[error("--audit-log-path: {path:?} cannot be opened for writing")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Decides what is logged, and logs it.
pub(crate) struct Auditor {
    policy: Policy,
    sink: Sink,
    mode: AuditMode,
    measures: Measures,
}

impl Auditor {
    /// Reads the policy, opens the log and starts the thread that writes it.
    ///
    /// # Errors
    /// When the policy or the log cannot be used.
    pub(crate) fn new(config: &AuditConfig) -> Result<Self, AuditError> {
        let path = &config.policy_file;
        let text = std::fs::read_to_string(path).map_err(|source| AuditError::Read {
            path: path.clone(),
            source,
        })?;
        let policy = Policy::parse(&text).map_err(|why| AuditError::Policy {
            path: path.clone(),
            why,
        })?;
        let open = |source| AuditError::Open {
            path: config.log_path.clone(),
            source,
        };
        let log: Box<dyn file::Log> = if config.log_path == Path::new("-") {
            Box::new(file::Stdout)
        } else {
            Box::new(LogFile::open(config).map_err(open)?)
        };
        let measures = Measures::default();
        let sink = Sink::start(log, measures.clone()).map_err(open)?;
        Ok(Self {
            policy,
            sink,
            mode: config.mode,
            measures,
        })
    }

    /// Makes known what is counted.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.measures.register(registry);
    }

    /// Waits until what is queued is written.
    pub(crate) async fn close(&self) {
        if tokio::time::timeout(END, self.sink.flush()).await.is_err() {
            tracing::error!("audit events were not written in time before the end");
        }
    }

    /// Begins with a request of which nothing is known but what its head says.
    pub(crate) fn open(self: &Arc<Self>, asking: Asking<'_>) -> Open {
        Open::new(Arc::clone(self), asking)
    }
}

/// The ID of a request: the client's own, if that is one, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let own = headers.get(AUDIT_ID).filter(|id| {
        let text = id.to_str().unwrap_or_default();
        (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    own.cloned().unwrap_or_else(|| {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}
