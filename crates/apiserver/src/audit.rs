//! The audit log: who asked for what, when, and what became of it, as the policy of `--audit-policy-file` says.
//!
//! | file | what it does |
//! |---|---|
//! | [`policy`] | the policy, and which level a request has by it |
//! | [`entry`] | one request: what is found out about it on its way, and its events |
//! | [`reading`] | what the head and the bodies of a request say |
//! | [`event`] | an event as `audit.k8s.io/v1` JSON |
//! | [`backend`] | where events go, and whether a request waits for that |
//! | [`batch`] | the queue of events that nobody waits for |
//! | [`webhook`], [`kubeconfig`] | the webhook that events are sent to, and the file that says where it is |
//! | [`sink`] | the queue to the one thread that writes, and what happens when it is full |
//! | [`file`] | the file, its rotation, and what a full disk does |
//!
//! Without a policy there is no [`Auditor`], and a request carries an empty [`Trail`].
//!
//! An event is never lost in silence: one that could not be written or queued is counted in
//! `apiserver_audit_error_total` and logged. With `blocking-strict`, a request whose first event could not be written is
//! refused before anything is done.

mod backend;
mod batch;
mod entry;
mod event;
mod file;
mod kubeconfig;
mod measures;
mod policy;
mod reading;
mod sink;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::registry::Registry;

use self::backend::Backend;
use self::file::LogFile;
use self::kubeconfig::Target;
use self::measures::Measures;
use self::policy::Policy;
use self::sink::Sink;
use self::webhook::Webhook;

pub use batch::{BatchConfig, Throttle};
pub(crate) use entry::{Connected, Open, Trail};
pub use kubeconfig::KubeconfigError;
pub use policy::PolicyError;
pub(crate) use reading::Asking;

/// The header by which a client knows the events of its request.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Characters of an ID that a client may choose.
const MAX_ID: usize = 64;
/// How long events that are queued may take to be written when the server ends.
const END: Duration = Duration::from_secs(5);

/// What a request does until its events are written (`--audit-log-mode`, `--audit-webhook-mode`).
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
                "invalid audit mode {other}, allowed modes are \"batch,blocking,blocking-strict\""
            )),
        }
    }
}

/// The `--audit-*` flags.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// `--audit-policy-file`.
    pub policy_file: PathBuf,
    /// `--audit-log-path`; `-` is the standard output.
    pub log_path: Option<PathBuf>,
    /// `--audit-log-maxage`: days that rotated files are kept; 0 keeps them whatever their age.
    pub max_age_days: u32,
    /// `--audit-log-maxbackup`: rotated files that are kept; 0 keeps all.
    pub max_backups: u32,
    /// `--audit-log-maxsize`: megabytes of the file before it is rotated; 0 means 100.
    pub max_size_megabytes: u32,
    /// `--audit-log-mode`.
    pub mode: AuditMode,
    /// `--audit-log-batch-*`.
    pub batch: BatchConfig,
    /// `--audit-webhook-*`.
    pub webhook: Option<WebhookConfig>,
}

/// The `--audit-webhook-*` flags.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// `--audit-webhook-config-file`: a kubeconfig.
    pub config_file: PathBuf,
    /// `--audit-webhook-mode`.
    pub mode: AuditMode,
    /// `--audit-webhook-batch-*`.
    pub batch: BatchConfig,
    /// `--audit-webhook-initial-backoff`: before a request that has failed is sent again.
    pub initial_backoff: Duration,
}

impl WebhookConfig {
    /// A configuration with stock defaults.
    #[must_use]
    pub fn new(config_file: impl Into<PathBuf>) -> Self {
        Self {
            config_file: config_file.into(),
            mode: AuditMode::Batch,
            batch: BatchConfig::for_webhook(),
            initial_backoff: Duration::from_secs(10),
        }
    }
}

impl AuditConfig {
    /// A configuration with stock defaults, and a file.
    #[must_use]
    pub fn new(policy_file: impl Into<PathBuf>, log_path: impl Into<PathBuf>) -> Self {
        Self {
            log_path: Some(log_path.into()),
            ..Self::without_log(policy_file)
        }
    }

    /// A configuration with stock defaults, without a file.
    #[must_use]
    pub fn without_log(policy_file: impl Into<PathBuf>) -> Self {
        Self {
            policy_file: policy_file.into(),
            log_path: None,
            max_age_days: 0,
            max_backups: 0,
            max_size_megabytes: 0,
            mode: AuditMode::default(),
            batch: BatchConfig::for_log(),
            webhook: None,
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
    /// The webhook's configuration cannot be used.
    #[error("--audit-webhook-config-file: {path:?}: {why}")]
    Webhook {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: KubeconfigError,
    },
    /// Flags that cannot be followed.
    #[error("--audit-{plugin}-{why}")]
    Batch {
        /// `log` or `webhook`.
        plugin: &'static str,
        /// What is wrong with them.
        why: &'static str,
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
    backends: Vec<Backend>,
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
        let measures = Measures::default();
        let mut backends = Vec::new();
        if let Some(path) = &config.log_path {
            backends.push(log(path, config, &measures)?);
        }
        if let Some(webhook) = &config.webhook {
            backends.push(hook(webhook, &measures)?);
        }
        Ok(Self {
            policy,
            backends,
            measures,
        })
    }

    /// Takes an event, and waits for it where that is wanted. False: it isn't taken, and has to be.
    async fn write(&self, line: Vec<u8>) -> bool {
        self.measures.event();
        let line = Bytes::from(line);
        let mut is_taken = true;
        for backend in &self.backends {
            is_taken &= backend.write(line.clone()).await;
        }
        is_taken
    }

    /// Takes an event that nobody waits for.
    fn push(&self, line: Vec<u8>) {
        self.measures.event();
        let line = Bytes::from(line);
        for backend in &self.backends {
            backend.push(line.clone());
        }
    }

    /// Makes known what is counted.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.measures.register(registry);
    }

    /// Waits until what is queued is written.
    pub(crate) async fn close(&self) {
        let closing = futures::future::join_all(self.backends.iter().map(Backend::close));
        if tokio::time::timeout(END, closing).await.is_err() {
            tracing::error!("audit events were not written in time before the end");
        }
    }

    /// Begins with a request of which nothing is known but what its head says.
    pub(crate) fn open(self: &Arc<Self>, asking: Asking<'_>) -> Open {
        Open::new(Arc::clone(self), asking)
    }
}

/// The file.
fn log(path: &Path, config: &AuditConfig, measures: &Measures) -> Result<Backend, AuditError> {
    let open = |source| AuditError::Open {
        path: path.to_owned(),
        source,
    };
    if let Some(why) = config.batch.misfit() {
        return Err(AuditError::Batch { plugin: "log", why });
    }
    let log: Box<dyn file::Log> = if path == Path::new("-") {
        Box::new(file::Stdout)
    } else {
        Box::new(LogFile::open(path, config).map_err(open)?)
    };
    let sink = Sink::start(log, measures.clone()).map_err(open)?;
    let batch = &config.batch;
    Ok(Backend::log(sink, config.mode, batch, measures.clone()))
}

/// The webhook.
fn hook(config: &WebhookConfig, measures: &Measures) -> Result<Backend, AuditError> {
    let path = &config.config_file;
    let failed = |why| AuditError::Webhook {
        path: path.clone(),
        why,
    };
    if let Some(why) = config.batch.misfit() {
        let plugin = "webhook";
        return Err(AuditError::Batch { plugin, why });
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| failed(KubeconfigError::Malformed(error.to_string())))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let target = Target::parse(&text, dir).map_err(failed)?;
    let webhook = Webhook::new(target, config.initial_backoff, measures.clone()).map_err(failed)?;
    let batch = &config.batch;
    Ok(Backend::webhook(
        webhook,
        config.mode,
        batch,
        measures.clone(),
    ))
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
