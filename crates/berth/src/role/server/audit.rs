//! Flags of the audit log.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use berth_apiserver::{AuditConfig, AuditMode, BatchConfig, Throttle, WebhookConfig};

use super::limits::parse_duration;

/// Days that rotated audit logs are kept, as kube-apiserver 1.36 has it.
const MAX_AGE_DAYS: u32 = 366;
/// Rotated audit logs that are kept, as kube-apiserver 1.36 has it.
const MAX_BACKUPS: u32 = 100;

/// Flags of the audit log.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AuditArgs {
    /// File with the policy (kind Policy of audit.k8s.io/v1) that says what the audit log records of which requests; needs
    /// --audit-log-path or --audit-webhook-config-file
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// File that the audit log is written to; - is the standard output. Needs --audit-policy-file
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Days that rotated audit logs are kept; 0 keeps them whatever their age
    #[arg(long, value_name = "DAYS", default_value_t = MAX_AGE_DAYS)]
    pub(crate) audit_log_maxage: u32,
    /// Rotated audit logs that are kept; 0 keeps all
    #[arg(long, value_name = "COUNT", default_value_t = MAX_BACKUPS)]
    pub(crate) audit_log_maxbackup: u32,
    /// Megabytes of the audit log before it is rotated; 0 means 100
    #[arg(long, value_name = "MB", default_value_t = 0)]
    pub(crate) audit_log_maxsize: u32,
    /// What a request does until its events are written: blocking waits, blocking-strict refuses it when its first event
    /// can't be written, batch does not wait and drops (and counts) what finds no room
    #[arg(long, value_name = "MODE", default_value = "blocking")]
    pub(crate) audit_log_mode: AuditMode,
    /// Events that may wait for the audit log, with the mode batch
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) audit_log_batch_buffer_size: u32,
    /// Events that are written at once, with the mode batch
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) audit_log_batch_max_size: u32,
    /// How long fewer events wait for more, with the mode batch
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = wait)]
    pub(crate) audit_log_batch_max_wait: Duration,
    /// Write batches no faster than the other throttle flags say, with the mode batch
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub(crate) audit_log_batch_throttle_enable: bool,
    /// Batches a second on average
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) audit_log_batch_throttle_qps: f32,
    /// Batches at once, after a while without
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) audit_log_batch_throttle_burst: u32,
    /// Kubeconfig of a webhook that audit events are sent to. Needs --audit-policy-file
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub(crate) audit_webhook_config_file: Option<PathBuf>,
    /// As --audit-log-mode, for the webhook
    #[arg(long, value_name = "MODE", default_value = "batch")]
    pub(crate) audit_webhook_mode: AuditMode,
    /// How long it takes until a request that the webhook hasn't taken is sent again
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) audit_webhook_initial_backoff: Duration,
    /// Events that may wait for the webhook, with the mode batch
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) audit_webhook_batch_buffer_size: u32,
    /// Events that are sent at once, with the mode batch
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    pub(crate) audit_webhook_batch_max_size: u32,
    /// How long fewer events wait for more, with the mode batch
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub(crate) audit_webhook_batch_max_wait: Duration,
    /// Send batches no faster than the other throttle flags say, with the mode batch
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub(crate) audit_webhook_batch_throttle_enable: bool,
    /// Batches a second on average
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    pub(crate) audit_webhook_batch_throttle_qps: f32,
    /// Batches at once, after a while without
    #[arg(long, value_name = "COUNT", default_value_t = 15)]
    pub(crate) audit_webhook_batch_throttle_burst: u32,
}

impl Default for AuditArgs {
    fn default() -> Self {
        let log = BatchConfig::for_log();
        let webhook = BatchConfig::for_webhook();
        let throttle = webhook.throttle.unwrap_or(Throttle { qps: 0.0, burst: 0 });
        Self {
            audit_policy_file: None,
            audit_log_path: None,
            audit_log_maxage: MAX_AGE_DAYS,
            audit_log_maxbackup: MAX_BACKUPS,
            audit_log_maxsize: 0,
            audit_log_mode: AuditMode::Blocking,
            audit_log_batch_buffer_size: log.buffer_size,
            audit_log_batch_max_size: log.max_size,
            audit_log_batch_max_wait: log.max_wait,
            audit_log_batch_throttle_enable: false,
            audit_log_batch_throttle_qps: 0.0,
            audit_log_batch_throttle_burst: 0,
            audit_webhook_config_file: None,
            audit_webhook_mode: AuditMode::Batch,
            audit_webhook_initial_backoff: Duration::from_secs(10),
            audit_webhook_batch_buffer_size: webhook.buffer_size,
            audit_webhook_batch_max_size: webhook.max_size,
            audit_webhook_batch_max_wait: webhook.max_wait,
            audit_webhook_batch_throttle_enable: true,
            audit_webhook_batch_throttle_qps: throttle.qps,
            audit_webhook_batch_throttle_burst: throttle.burst,
        }
    }
}

/// A duration that may be none.
fn wait(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") {
        return Ok(Duration::ZERO);
    }
    parse_duration(text)
}

impl AuditArgs {
    /// None keeps no audit log.
    pub(crate) fn config(&self) -> anyhow::Result<Option<AuditConfig>> {
        let Some(policy) = &self.audit_policy_file else {
            return Ok(None);
        };
        if self.audit_log_path.is_none() && self.audit_webhook_config_file.is_none() {
            bail!(
                "--audit-policy-file: nothing would be recorded; add --audit-log-path or --audit-webhook-config-file"
            );
        }
        let throttle = |enabled: bool, qps, burst| enabled.then_some(Throttle { qps, burst });
        let mut config = AuditConfig::without_log(policy);
        config.log_path.clone_from(&self.audit_log_path);
        config.max_age_days = self.audit_log_maxage;
        config.max_backups = self.audit_log_maxbackup;
        config.max_size_megabytes = self.audit_log_maxsize;
        config.mode = self.audit_log_mode;
        config.batch = BatchConfig {
            buffer_size: self.audit_log_batch_buffer_size,
            max_size: self.audit_log_batch_max_size,
            max_wait: self.audit_log_batch_max_wait,
            throttle: throttle(
                self.audit_log_batch_throttle_enable,
                self.audit_log_batch_throttle_qps,
                self.audit_log_batch_throttle_burst,
            ),
        };
        config.webhook = self
            .audit_webhook_config_file
            .as_ref()
            .map(|config_file| WebhookConfig {
                config_file: config_file.clone(),
                mode: self.audit_webhook_mode,
                initial_backoff: self.audit_webhook_initial_backoff,
                batch: BatchConfig {
                    buffer_size: self.audit_webhook_batch_buffer_size,
                    max_size: self.audit_webhook_batch_max_size,
                    max_wait: self.audit_webhook_batch_max_wait,
                    throttle: throttle(
                        self.audit_webhook_batch_throttle_enable,
                        self.audit_webhook_batch_throttle_qps,
                        self.audit_webhook_batch_throttle_burst,
                    ),
                },
            });
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        audit: AuditArgs,
    }

    fn config(flags: &[&str]) -> anyhow::Result<Option<AuditConfig>> {
        Flags::try_parse_from([&["berth"], flags].concat())?
            .audit
            .config()
    }

    #[test]
    fn flags_are_stock() {
        assert_eq!(config(&[]).unwrap(), None);
        let policy = "--audit-policy-file=p";
        let log = config(&[policy, "--audit-log-path=l"]).unwrap().unwrap();
        let stock = AuditConfig {
            max_age_days: 366,
            max_backups: 100,
            ..AuditConfig::new("p", "l")
        };
        assert_eq!(log, stock);
        let whole = &[
            policy,
            "--audit-log-path=l",
            "--audit-log-maxage=0",
            "--audit-log-maxbackup=0",
        ];
        assert_eq!(config(whole).unwrap().unwrap(), AuditConfig::new("p", "l"));
        let hook = config(&[policy, "--audit-webhook-config-file=k"])
            .unwrap()
            .unwrap();
        assert_eq!(hook.log_path, None);
        assert_eq!(hook.webhook, Some(WebhookConfig::new("k")));
        let all = config(&[
            policy,
            "--audit-webhook-config-file",
            "k",
            "--audit-webhook-batch-throttle-enable=false",
            "--audit-webhook-batch-max-wait",
            "1s",
            "--audit-webhook-mode",
            "blocking-strict",
        ])
        .unwrap()
        .unwrap();
        let hook = all.webhook.unwrap();
        assert_eq!(
            (hook.batch.throttle, hook.batch.max_wait, hook.mode),
            (None, Duration::from_secs(1), AuditMode::BlockingStrict)
        );
        for bad in [
            &[policy][..],
            &["--audit-log-path=l"],
            &["--audit-webhook-config-file=k"],
            &[policy, "--audit-log-path=l", "--audit-log-mode=never"],
        ] {
            assert!(config(bad).is_err(), "{bad:?}");
        }
        let of_default = AuditArgs::default().config().unwrap();
        assert_eq!(of_default, None);
    }
}
