//! The distributed store: an etcd cluster, for several servers side by side.

use bytes::Bytes;
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, EventType, GetOptions, GetResponse, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::{
    Event, Expect, KeyValue, OpenError, Outcome, Page, Range, Revision, Store, StoreError,
    WatchStream, Write,
};

/// Written with every delete, so that the newest revision is always some key's.
const DELETED: &str = "/deleted";

/// A store in etcd.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    /// Goes before every key, so that several clusters can share one etcd.
    root: String,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Etcd({})", self.root)
    }
}

fn failed(error: etcd_client::Error) -> StoreError {
    if let etcd_client::Error::GRpcStatus(status) = &error {
        if status.message().contains("compacted") {
            return StoreError::Compacted { compacted: 0 };
        }
        if status.message().contains("future revision") {
            return StoreError::Future {
                asked: 0,
                current: 0,
            };
        }
    }
    StoreError::Etcd(Box::new(error))
}

impl Etcd {
    /// Connects, and asks once so that a wrong address is told now.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn connect(endpoints: &[String], root: &str) -> Result<Self, OpenError> {
        let unreachable = |source| OpenError::Etcd {
            endpoints: endpoints.join(","),
            source: Box::new(source),
        };
        let mut client = Client::connect(endpoints, None)
            .await
            .map_err(unreachable)?;
        client.get("/", None).await.map_err(unreachable)?;
        Ok(Self {
            client,
            root: root.trim_end_matches('/').to_owned(),
        })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn read(&self, kv: &etcd_client::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.key(kv)?,
            value: Bytes::copy_from_slice(kv.value()),
            revision: kv.mod_revision(),
        })
    }

    fn key(&self, kv: &etcd_client::KeyValue) -> Option<String> {
        let key = std::str::from_utf8(kv.key()).ok()?;
        Some(key.strip_prefix(&self.root)?.to_owned())
    }

    async fn transact_now(&self, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        let compares: Vec<Compare> = writes
            .iter()
            .filter_map(|write| {
                match write.expect {
                    Expect::Any => None,
                    Expect::Absent => Some(0),
                    Expect::Revision(revision) => Some(revision),
                }
                .map(|revision| {
                    Compare::mod_revision(self.full(&write.key), CompareOp::Equal, revision)
                })
            })
            .collect();
        let mut changes: Vec<TxnOp> = writes
            .iter()
            .map(|write| match &write.value {
                Some(value) => TxnOp::put(self.full(&write.key), value.to_vec(), None),
                None => TxnOp::delete(self.full(&write.key), None),
            })
            .collect();
        // A deleted key leaves nothing that `revision` could see; this does. A delete that may find
        // nothing is left out: it would make a revision that no watch tells of.
        let deletes = writes
            .iter()
            .any(|w| w.value.is_none() && matches!(w.expect, Expect::Revision(_)));
        if deletes {
            changes.push(TxnOp::put(self.full(DELETED), Vec::new(), None));
        }
        let look: Vec<TxnOp> = writes
            .iter()
            .map(|write| TxnOp::get(self.full(&write.key), None))
            .collect();
        let txn = Txn::new().when(compares).and_then(changes).or_else(look);
        let answer = self.client.clone().txn(txn).await.map_err(failed)?;
        if answer.succeeded() {
            let revision = answer
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Outcome::Committed(revision));
        }
        let found = answer.op_responses();
        for (write, response) in writes.iter().zip(found) {
            let TxnOpResponse::Get(got) = response else {
                continue;
            };
            let current = self.first(&got);
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
        // Everything holds by the time it was looked at: somebody changed it and changed it back.
        // The caller tries again as after any other change.
        let key = writes.first().map(|w| w.key.clone()).unwrap_or_default();
        let current = Store::get(self, &key).await?;
        Ok(Outcome::Failed { key, current })
    }

    fn first(&self, got: &GetResponse) -> Option<KeyValue> {
        got.kvs().first().and_then(|kv| self.read(kv))
    }

    async fn range_now(&self, range: Range) -> Result<Page, StoreError> {
        let prefix = self.full(&range.prefix);
        let end = end_of(&prefix);
        let start = match &range.after {
            // The next possible key after this one.
            Some(after) => format!("{}\0", self.full(after)),
            None => prefix,
        };
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(range.limit).unwrap_or(0))
            .with_revision(range.revision)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        let got = self
            .client
            .clone()
            .get(start, Some(options))
            .await
            .map_err(failed)?;
        let now = got
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Page {
            items: got.kvs().iter().filter_map(|kv| self.read(kv)).collect(),
            revision: if range.revision == 0 {
                now
            } else {
                range.revision
            },
            more: got.more(),
        })
    }

    async fn watch_now(&self, prefix: String, from: Revision) -> Result<WatchStream, StoreError> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(from.max(1));
        let stream = self
            .client
            .clone()
            .watch(self.full(&prefix), Some(options))
            .await
            .map_err(failed)?;
        let watching = (self.clone(), stream, false);
        Ok(
            futures::stream::unfold(watching, |(store, mut stream, ended)| async move {
                if ended {
                    return None;
                }
                loop {
                    let batch = match stream.message().await {
                        Ok(Some(answer)) if answer.compact_revision() > 0 => {
                            Err(StoreError::Compacted {
                                compacted: answer.compact_revision(),
                            })
                        }
                        // The follower begins again.
                        Ok(Some(answer)) if answer.canceled() => return None,
                        Ok(Some(answer)) => {
                            let events: Vec<Event> = answer
                                .events()
                                .iter()
                                .filter_map(|e| store.event(e))
                                .collect();
                            if events.is_empty() {
                                continue;
                            }
                            Ok(events)
                        }
                        Ok(None) => return None,
                        Err(error) => Err(failed(error)),
                    };
                    let ended = batch.is_err();
                    return Some((batch, (store, stream, ended)));
                }
            })
            .boxed(),
        )
    }

    fn event(&self, event: &etcd_client::Event) -> Option<Event> {
        let kv = event.kv()?;
        Some(Event {
            key: self.key(kv)?,
            value: match event.event_type() {
                EventType::Put => Some(Bytes::copy_from_slice(kv.value())),
                EventType::Delete => None,
            },
            revision: kv.mod_revision(),
        })
    }
}

/// The first key after all that have a prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0]
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>, StoreError>> {
        async move {
            let got = self
                .client
                .clone()
                .get(self.full(key), None)
                .await
                .map_err(failed)?;
            Ok(self.first(&got))
        }
        .boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.range_now(range).boxed()
    }

    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.transact_now(writes).boxed()
    }

    fn watch(
        &self,
        prefix: String,
        from: Revision,
    ) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        self.watch_now(prefix, from).boxed()
    }

    /// The revision of the last change under this store's root: other users of the etcd do not
    /// count, since no watch would ever tell of their revisions.
    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        async move {
            let options = GetOptions::new()
                .with_prefix()
                .with_keys_only()
                .with_limit(1)
                .with_sort(SortTarget::Mod, SortOrder::Descend);
            let got = self
                .client
                .clone()
                .get(self.full("/"), Some(options))
                .await
                .map_err(failed)?;
            Ok(got
                .kvs()
                .first()
                .map_or(0, etcd_client::KeyValue::mod_revision))
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let options = CompactionOptions::new().with_physical();
            match self
                .client
                .clone()
                .compact(revision, Some(options))
                .await
                .map_err(failed)
            {
                // Another server was quicker.
                Ok(_) | Err(StoreError::Compacted { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}
