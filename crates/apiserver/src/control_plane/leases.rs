//! Which servers there are: each renews a record of its address in the store they share.
//!
//! Clocks differ, so nobody trusts the times of others: a server counts as long as this one has seen its record change.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_store::{Expect, Revision};
use serde_json::json;
use tokio::time::Instant;

use super::write::now;
use crate::storage::Storage;

/// Where the records are; no kind of the API has this storage name.
const SERVERS: &str = "berth/apiservers";
/// How long a server counts that has not renewed its record.
pub(super) const LIFE: Duration = Duration::from_secs(25);

/// The records as they are: a server works that changes one of them.
pub(super) fn records(storage: &Storage) -> BTreeSet<(String, Revision)> {
    let all = storage.list(SERVERS, None);
    all.iter()
        .map(|record| (record.name.to_string(), record.revision))
        .collect()
}

/// What has been seen of the records.
pub(super) struct Leases {
    /// Whether there may be other servers at all.
    shared: bool,
    seen: HashMap<String, (Revision, Instant)>,
}

impl Leases {
    /// Nothing is seen yet.
    pub(super) fn new(shared: bool) -> Self {
        Self {
            shared,
            seen: HashMap::new(),
        }
    }

    /// Renews this server's record; gives the addresses of all that count.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) async fn renew(
        &mut self,
        storage: &Storage,
        own: IpAddr,
    ) -> Result<BTreeSet<IpAddr>, ApiError> {
        if !self.shared {
            return Ok(BTreeSet::from([own]));
        }
        let name = own.to_string();
        let record = json!({"metadata": {"name": name}, "renewed": now()});
        storage.put(SERVERS, "", &name, Expect::Any, record).await?;
        self.alive(storage).await
    }

    /// Removes this server's record; gives the addresses of the others.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) async fn end(
        &mut self,
        storage: &Storage,
        own: IpAddr,
    ) -> Result<BTreeSet<IpAddr>, ApiError> {
        let name = own.to_string();
        if !self.shared || storage.get(SERVERS, "", &name).is_none() {
            return Ok(BTreeSet::new());
        }
        storage.remove(SERVERS, "", &name, Expect::Any).await?;
        self.alive(storage).await
    }

    async fn alive(&mut self, storage: &Storage) -> Result<BTreeSet<IpAddr>, ApiError> {
        let records = storage.list(SERVERS, None);
        let mut alive = BTreeSet::new();
        let mut seen = HashMap::new();
        for record in records {
            let now = Instant::now();
            let last = self.seen.get(&*record.name).copied();
            let at = match last {
                Some((revision, at)) if revision == record.revision => at,
                Some(_) | None => now,
            };
            if now.duration_since(at) > LIFE {
                let expect = Expect::Revision(record.revision);
                storage.remove(SERVERS, "", &record.name, expect).await?;
                continue;
            }
            seen.insert(record.name.to_string(), (record.revision, at));
            alive.extend(record.name.parse::<IpAddr>().ok());
        }
        self.seen = seen;
        Ok(alive)
    }
}
