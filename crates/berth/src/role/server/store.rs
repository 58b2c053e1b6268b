//! Flags that say where the objects are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use berth_apiserver::StoreConfig;
use berth_store::etcd::EtcdConfig;
use tracing::warn;

/// Flags about etcd; they bear the stock server's names.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct EtcdArgs {
    /// Client URLs of the etcd that keeps the objects, comma-separated [default: a SQLite database in the data directory]
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    pub(crate) etcd_servers: Vec<String>,
    /// CA of etcd's certificates [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// Certificate shown to etcd
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Key of the certificate shown to etcd
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// Path in etcd below which everything is kept; a path that holds another program's data is refused [default:
    /// /registry]
    #[arg(long, value_name = "PATH")]
    pub(crate) etcd_prefix: Option<String>,
}

/// Flags of the store.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) etcd: EtcdArgs,
    /// File that says which resources are encrypted in the store, and with which keys (EncryptionConfiguration)
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Read that file again when it changes, and use what it says without a restart
    #[arg(long, requires = "encryption_provider_config", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) encryption_provider_config_automatic_reload: bool,
}

/// How often the file is looked at.
const RELOAD: Duration = Duration::from_secs(10);

impl StoreArgs {
    /// How often the file that says what is encrypted is read again; none: once.
    pub(crate) fn encryption_reload(&self) -> Option<Duration> {
        self.encryption_provider_config_automatic_reload
            .then_some(RELOAD)
    }

    /// The store; `dir` is where an embedded database is.
    ///
    /// # Errors
    /// For flags about etcd without `--etcd-servers`.
    pub(crate) fn config(&self, dir: &Path) -> anyhow::Result<StoreConfig> {
        if let Some(etcd) = self.etcd.config()? {
            let database = dir.join("berth.db");
            if database.exists() {
                warn!(database = %database.display(), "the objects in this database are not served, those in etcd are; \
                    berth store migrate copies them into an empty etcd");
            }
            return Ok(StoreConfig::Etcd(etcd));
        }
        Ok(StoreConfig::Sqlite {
            dir: dir.to_owned(),
        })
    }
}

impl EtcdArgs {
    /// The etcd, if one is named.
    ///
    /// # Errors
    /// For flags about etcd without `--etcd-servers`.
    pub(crate) fn config(&self) -> anyhow::Result<Option<EtcdConfig>> {
        if self.etcd_servers.is_empty() {
            let alone = [
                ("--etcd-cafile", self.etcd_cafile.is_some()),
                ("--etcd-certfile", self.etcd_certfile.is_some()),
                ("--etcd-keyfile", self.etcd_keyfile.is_some()),
                ("--etcd-prefix", self.etcd_prefix.is_some()),
            ];
            if let Some((flag, _)) = alone.iter().find(|(_, given)| *given) {
                bail!(
                    "{flag} has no effect without --etcd-servers; name the etcd, or leave it out"
                );
            }
            return Ok(None);
        }
        Ok(Some(EtcdConfig {
            endpoints: self.etcd_servers.clone(),
            prefix: self
                .etcd_prefix
                .clone()
                .unwrap_or_else(|| "/registry".to_owned()),
            ca_file: self.etcd_cafile.clone(),
            cert_file: self.etcd_certfile.clone(),
            key_file: self.etcd_keyfile.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_etcd_its_flags_are_refused() {
        let dir = Path::new("/nowhere");
        let mut args = StoreArgs::default();
        assert!(matches!(args.config(dir), Ok(StoreConfig::Sqlite { .. })));
        args.etcd.etcd_prefix = Some("/x".to_owned());
        let error = args.config(dir).unwrap_err().to_string();
        assert!(error.contains("--etcd-prefix has no effect"), "{error}");
        args.etcd.etcd_prefix = None;
        args.etcd.etcd_servers = vec!["https://a:2379".to_owned()];
        let StoreConfig::Etcd(etcd) = args.config(dir).unwrap() else {
            panic!("an etcd was named");
        };
        assert_eq!(etcd.prefix, "/registry");
    }
}
