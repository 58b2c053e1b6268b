//! `berth store`: backups of a cluster's objects, their restore, a check, and the move from SQLite to etcd.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use berth_apiserver::storage::{Encryption, StoredValues};
use berth_store::backup::{self, Copied};
use berth_store::etcd::{Etcd, EtcdConfig};
use berth_store::sqlite::Snapshot;
use berth_store::{BackupError, Store as _};

use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::role::server::store::EtcdArgs;

/// What a restore adds to revisions: more than any cluster writes between its last backup and its loss.
const RAISE: i64 = 1_000_000_000;

#[derive(Debug, clap::Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write all objects as they are at one moment into a new file; the server may go on meanwhile
    Backup(FileArgs),
    /// Make the objects of a backup those of a data directory or etcd prefix that has none; no server may use it yet
    Restore(RestoreArgs),
    /// Look for what is damaged or cannot be read, in the store or in a backup; the server may go on meanwhile
    Check(CheckArgs),
    /// Copy all objects from the data directory's database into an empty etcd prefix; the server must be stopped
    Migrate(PlaceArgs),
}

/// Where a store is.
#[derive(Debug, clap::Args)]
struct PlaceArgs {
    #[command(flatten)]
    dirs: DirArgs,
    #[command(flatten)]
    etcd: EtcdArgs,
}

#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    #[command(flatten)]
    file: FileArgs,
    /// How far above the backup's the new revisions begin: further than the lost cluster has come since the backup, so
    /// that no client takes a new object for one that it has seen
    #[arg(long, value_name = "N", default_value_t = RAISE, value_parser = clap::value_parser!(i64).range(0..=1 << 60))]
    bump_revision: i64,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A backup; none checks the store itself
    file: Option<PathBuf>,
    /// Also decrypt what is encrypted, with the keys in this file (EncryptionConfiguration)
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl PlaceArgs {
    fn database(&self) -> PathBuf {
        self.server_dir().join("berth.db")
    }

    fn server_dir(&self) -> PathBuf {
        self.dirs.data_dir.join("server")
    }

    /// Takes the data directory for us alone; makes it when there is none.
    fn take(&self) -> anyhow::Result<DataDir> {
        let (bridge, pod_cidr) = self.dirs.network();
        let marker = || data_dir::marker(bridge, pod_cidr);
        Ok(DataDir::open(&self.dirs.data_dir, marker)?)
    }
}

fn say(what: &str, copied: Copied, place: &str) {
    let Copied {
        keys,
        bytes,
        revision,
    } = copied;
    println!("{what} {keys} objects ({bytes} bytes) at resourceVersion {revision}: {place}");
}

fn named(etcd: &EtcdConfig) -> String {
    format!("etcd {} {}", etcd.endpoints.join(","), etcd.prefix)
}

impl StoreCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Verb::Backup(args) => args.backup().await?,
            Verb::Restore(args) => args.restore().await?,
            Verb::Migrate(args) => args.migrate().await?,
            Verb::Check(args) => return args.check().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl FileArgs {
    async fn backup(self) -> anyhow::Result<()> {
        let copied = match self.place.etcd.config()? {
            Some(etcd) => {
                let store = Etcd::open_existing(&etcd).await?;
                backup::of_etcd(&store, &self.file).await?
            }
            None => backup::of_sqlite(&self.place.database(), &self.file)?,
        };
        say("saved", copied, &self.file.display().to_string());
        Ok(())
    }
}

impl RestoreArgs {
    async fn restore(self) -> anyhow::Result<()> {
        let (file, place) = (&self.file.file, &self.file.place);
        if let Some(etcd) = place.etcd.config()? {
            let copied = backup::to_etcd(file, &etcd, self.bump_revision).await?;
            say("restored", copied, &named(&etcd));
            return Ok(());
        }
        let data = place.take()?;
        let copied = backup::to_sqlite(file, &data.path().join("server"), self.bump_revision)?;
        say("restored", copied, &place.database().display().to_string());
        Ok(())
    }
}

impl PlaceArgs {
    async fn migrate(self) -> anyhow::Result<()> {
        let Some(etcd) = self.etcd.config()? else {
            bail!("--etcd-servers says where to; without it there is nothing to migrate to");
        };
        let database = self.database();
        if !database.exists() {
            bail!(
                "{} does not exist: there is nothing to migrate",
                database.display()
            );
        }
        let _data = self.take()?;
        let copied = backup::migrate(&self.server_dir(), &etcd).await?;
        say("copied", copied, &named(&etcd));
        println!(
            "start the server with --etcd-servers from now on; {} stays as it is and is not used any more",
            database.display()
        );
        Ok(())
    }
}

/// What was found by looking at every value.
struct Found {
    values: StoredValues,
    encrypted: usize,
    all: usize,
    wrong: usize,
}

impl Found {
    fn look(&mut self, key: &str, value: &bytes::Bytes) {
        self.all += 1;
        match self.values.check(key, value) {
            Ok(encrypted) => self.encrypted += usize::from(encrypted),
            Err(why) => {
                self.wrong += 1;
                println!("{key}: {why}");
            }
        }
    }
}

impl CheckArgs {
    async fn check(self) -> anyhow::Result<ExitCode> {
        let encryption = match &self.encryption_provider_config {
            Some(file) => Some(Encryption::load(file)?),
            None => None,
        };
        let mut found = Found {
            values: StoredValues::new(encryption),
            encrypted: 0,
            all: 0,
            wrong: 0,
        };
        let (place, revision) = match (&self.file, self.place.etcd.config()?) {
            (Some(_), Some(_)) => bail!("name a backup or an etcd, not both"),
            (None, Some(etcd)) => {
                let store = Etcd::open_existing(&etcd).await?;
                let revision = store.revision().await?;
                backup::each_of_etcd(&store, revision, |kv| {
                    found.look(&kv.key, &kv.value);
                    Ok::<_, BackupError>(())
                })
                .await?;
                (named(&etcd), revision)
            }
            (Some(file), None) => (file.display().to_string(), found.file(file)?),
            (None, None) => {
                let file = self.place.database();
                (file.display().to_string(), found.file(&file)?)
            }
        };
        let Found {
            all,
            encrypted,
            wrong,
            ..
        } = found;
        println!(
            "{place}: {all} objects at resourceVersion {revision}, {encrypted} of them encrypted, {wrong} cannot be read"
        );
        Ok(if wrong == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Found {
    fn file(&mut self, file: &Path) -> anyhow::Result<i64> {
        let snapshot = Snapshot::open(file)?;
        snapshot
            .check()
            .with_context(|| format!("{} fails its check", file.display()))?;
        snapshot.for_each(|kv| {
            self.look(&kv.key, &kv.value);
            Ok::<_, BackupError>(())
        })?;
        Ok(snapshot.revision())
    }
}
