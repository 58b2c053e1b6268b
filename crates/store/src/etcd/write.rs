//! Transactions: all compares hold, or nothing is written.

use etcd_client::{Compare, CompareOp, ResponseHeader, Txn, TxnOp, TxnOpResponse};

use super::members::Kind;
use super::{Etcd, Known};
use crate::{Expect, Outcome, Store, StoreError, Write};

impl Etcd {
    pub(super) async fn transact_now(&self, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        let known = self.known();
        let txn = self.transaction(&writes, known);
        let answer = self
            .members
            .call(Kind::Write, |mut member| {
                let txn = txn.clone();
                async move { member.kv.txn(txn).await }
            })
            .await
            .map_err(|failure| self.failed(failure, 0))?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, ResponseHeader::revision);
            self.saw_head(revision);
            // As it was when the prefix was what the transaction requires.
            return Ok(Outcome::Committed(revision + known.offset));
        }
        for (write, response) in writes.iter().zip(answer.op_responses()) {
            let TxnOpResponse::Get(got) = response else {
                continue;
            };
            let current = got.kvs().first().and_then(|kv| self.read(kv));
            let revision = current.as_ref().map(|kv| kv.revision);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => revision.is_none(),
                Expect::Revision(expected) => revision == Some(expected),
            };
            if !holds {
                return Ok(Outcome::Failed {
                    key: write.key.clone(),
                    current,
                });
            }
        }
        // All that was expected is so, and yet it failed: the prefix is no longer what it was.
        self.check_format().await?;
        let key = writes.first().map(|w| w.key.clone()).unwrap_or_default();
        let current = Store::get(self, &key).await?;
        Ok(Outcome::Failed { key, current })
    }

    fn transaction(&self, writes: &[Write], known: Known) -> Txn {
        let ours = Compare::mod_revision(self.layout.format(), CompareOp::Equal, known.format);
        let expected = writes.iter().filter_map(|write| {
            let revision = match write.expect {
                Expect::Any => return None,
                Expect::Absent => 0,
                // One from before this etcd is no key's: a compare with it never holds, as it should be.
                Expect::Revision(revision) => match revision - known.offset {
                    physical if physical > 0 => physical,
                    _ => i64::MAX,
                },
            };
            let key = self.layout.full(&write.key);
            Some(Compare::mod_revision(key, CompareOp::Equal, revision))
        });
        let compares: Vec<Compare> = std::iter::once(ours).chain(expected).collect();
        let mut changes: Vec<TxnOp> = writes
            .iter()
            .map(|write| {
                let key = self.layout.full(&write.key);
                match &write.value {
                    Some(value) => TxnOp::put(key, value.to_vec(), None),
                    None => TxnOp::delete(key, None),
                }
            })
            .collect();
        // Last, so that in a watch it ends the transaction.
        changes.push(TxnOp::put(self.layout.head(), Vec::new(), None));
        let look: Vec<TxnOp> = writes
            .iter()
            .map(|write| TxnOp::get(self.layout.full(&write.key), None))
            .collect();
        Txn::new().when(compares).and_then(changes).or_else(look)
    }
}
