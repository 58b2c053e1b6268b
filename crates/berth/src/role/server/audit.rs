//! Flags of the audit log.

use std::path::PathBuf;

use berth_apiserver::{AuditConfig, AuditMode};

/// Flags of the audit log.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AuditArgs {
    /// File with the policy (kind Policy of audit.k8s.io/v1) that says what the audit log records of which requests; needs
    /// --audit-log-path
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// File that the audit log is written to; - is the standard output. Needs --audit-policy-file
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Days that rotated audit logs are kept; 0 keeps them whatever their age
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub(crate) audit_log_maxage: u32,
    /// Rotated audit logs that are kept; 0 keeps all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) audit_log_maxbackup: u32,
    /// Megabytes of the audit log before it is rotated; 0 means 100
    #[arg(long, value_name = "MB", default_value_t = 0)]
    pub(crate) audit_log_maxsize: u32,
    /// What a request does until its events are written: blocking waits, blocking-strict refuses it when its first event
    /// can't be written, batch does not wait and drops (and counts) what finds no room
    #[arg(long, value_name = "MODE", default_value = "blocking")]
    pub(crate) audit_log_mode: AuditMode,
}

impl AuditArgs {
    /// None keeps no audit log.
    pub(crate) fn config(&self) -> Option<AuditConfig> {
        let (policy, log) = (
            self.audit_policy_file.as_ref()?,
            self.audit_log_path.as_ref()?,
        );
        let mut config = AuditConfig::new(policy, log);
        config.max_age_days = self.audit_log_maxage;
        config.max_backups = self.audit_log_maxbackup;
        config.max_size_megabytes = self.audit_log_maxsize;
        config.mode = self.audit_log_mode;
        Some(config)
    }
}
