//! Filling an empty prefix, which becomes ours with its last transaction.

use etcd_client::{Compare, CompareOp, ResponseHeader, Txn, TxnOp};

use super::config::EtcdConfig;
use super::layout::{Format, Layout};
use super::members::{Kind, Members};
use super::open;
use crate::{KeyValue, OpenError, Revision, StoreError};

/// Keys in a transaction; etcd takes 128 operations.
const BATCH_KEYS: usize = 100;
/// Bytes in a transaction; etcd takes 1.5 MiB by default.
const BATCH_BYTES: usize = 1 << 20;

/// A prefix that is being filled.
pub struct Fill {
    members: Members,
    layout: Layout,
    offset: Revision,
    batch: Vec<KeyValue>,
    bytes: usize,
}

impl Fill {
    /// Begins; revisions will be above `above`.
    ///
    /// # Errors
    /// When the prefix holds anything. Nothing was written then.
    pub async fn begin(config: &EtcdConfig, above: Revision) -> Result<Self, OpenError> {
        let layout = Layout::new(config.root()?);
        let members = Members::of(config).await?;
        let revision = open::require_empty(config, &members, &layout).await?;
        Ok(Self {
            members,
            layout,
            offset: (above - revision).max(0),
            batch: Vec::new(),
            bytes: 0,
        })
    }

    /// Adds a key with its value.
    ///
    /// # Errors
    /// When etcd fails.
    pub async fn add(&mut self, kv: KeyValue) -> Result<(), StoreError> {
        let size = kv.key.len() + kv.value.len();
        if self.batch.len() >= BATCH_KEYS || self.bytes + size > BATCH_BYTES {
            self.flush().await?;
        }
        self.bytes += size;
        self.batch.push(kv);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let puts: Vec<TxnOp> = batch
            .iter()
            .map(|kv| TxnOp::put(self.layout.full(&kv.key), kv.value.to_vec(), None))
            .collect();
        self.write(puts).await.map(drop)
    }

    /// Writes while nobody else has made the prefix theirs.
    async fn write(&self, puts: Vec<TxnOp>) -> Result<Revision, StoreError> {
        let absent = Compare::mod_revision(self.layout.format(), CompareOp::Equal, 0);
        let txn = Txn::new().when([absent]).and_then(puts);
        let answer = self
            .members
            .call(Kind::Write, |mut member| {
                let txn = txn.clone();
                async move { member.kv.txn(txn).await }
            })
            .await
            .map_err(super::failure::Failure::into_error)?;
        if !answer.succeeded() {
            return Err(StoreError::Refused {
                detail: "another process has begun to use the prefix meanwhile".to_owned(),
            });
        }
        Ok(answer.header().map_or(0, ResponseHeader::revision))
    }

    /// Makes the prefix ours; gives its revision.
    ///
    /// # Errors
    /// When etcd fails.
    pub async fn finish(mut self) -> Result<Revision, StoreError> {
        self.flush().await?;
        let format = Format::new(self.offset).encode();
        let revision = self
            .write(vec![
                TxnOp::put(self.layout.format(), format, None),
                TxnOp::put(self.layout.head(), Vec::new(), None),
            ])
            .await?;
        Ok(revision + self.offset)
    }
}
