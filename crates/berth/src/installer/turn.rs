//! The turns of nodes to start their runtime again, as Leases in the installer's namespace.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use berth_installer::turns::{self, Choice, LIMIT, Turn, Turns};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tracing::warn;

use super::code::is_code;

/// A node's turns.
pub(crate) struct NodeTurns {
    leases: Api<Lease>,
    maps: Api<ConfigMap>,
    config_map: String,
    node: String,
    /// How many nodes start their runtimes again at the same time.
    count: u32,
    turns: Turns,
    start: Instant,
    /// Whether a turn may be held: until that was looked at, one of an earlier run.
    is_held: bool,
}

impl NodeTurns {
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        config_map: &str,
        node: &str,
        count: u32,
    ) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            config_map: config_map.to_owned(),
            node: node.to_owned(),
            count,
            turns: Turns::default(),
            start: Instant::now(),
            is_held: true,
        }
    }

    /// Takes a turn, or says why this node has to wait. Taken again, it is held for longer.
    ///
    /// # Errors
    /// When the Leases can't be read or written.
    pub(crate) async fn take(&mut self) -> anyhow::Result<Result<(), String>> {
        let leases = self.read().await?;
        let seen = leases.iter().map(|(number, lease)| {
            let turn = lease.as_ref().map(|lease| Turn {
                holder: holder(lease).to_owned(),
                version: lease.resource_version().unwrap_or_default(),
            });
            (*number, turn)
        });
        let seen = seen.collect();
        let numbers = match self.turns.choose(&self.node, &seen, self.start.elapsed()) {
            Choice::Take(numbers) => numbers,
            Choice::Wait(others) => return Ok(Err(turns::waiting(&others))),
        };
        for number in numbers {
            let lease = leases.get(&number).cloned().flatten();
            if self.write(number, lease, &self.node).await? {
                self.is_held = true;
                return Ok(Ok(()));
            }
        }
        Ok(Err(turns::waiting(&["that was quicker".to_owned()])))
    }

    /// Gives the turn back, if there is one. What can't be written now is free after a while.
    pub(crate) async fn give_back(&mut self) {
        if !self.is_held {
            return;
        }
        match self.free().await {
            Ok(()) => self.is_held = false,
            Err(error) => warn!(
                error = format!("{error:#}"),
                "cannot give the turn to start the runtime again to other nodes"
            ),
        }
    }

    async fn free(&self) -> anyhow::Result<()> {
        for (number, lease) in self.read().await? {
            if let Some(lease) = lease.filter(|lease| holder(lease) == self.node) {
                self.write(number, Some(lease), "").await?;
            }
        }
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<BTreeMap<u32, Option<Lease>>> {
        let mut leases = BTreeMap::new();
        for number in 0..self.count {
            let name = turns::name(number);
            let lease = self.leases.get_opt(&name).await;
            leases.insert(number, lease.with_context(|| cannot("read", &name))?);
        }
        Ok(leases)
    }

    /// Writes a holder; whether nobody else was quicker.
    async fn write(&self, number: u32, lease: Option<Lease>, holder: &str) -> anyhow::Result<bool> {
        let name = turns::name(number);
        let now = MicroTime(Timestamp::now());
        let was = lease.as_ref().and_then(|lease| lease.spec.clone());
        let transitions = was.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let is_free = holder.is_empty();
        let spec = LeaseSpec {
            holder_identity: (!is_free).then(|| holder.to_owned()),
            lease_duration_seconds: i32::try_from(LIMIT.as_secs()).ok().filter(|_| !is_free),
            renew_time: (!is_free).then_some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_free))),
            ..LeaseSpec::default()
        };
        let params = PostParams::default();
        let written = match lease {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.leases.replace(&name, &params, &lease).await
            }
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        // They go with the list.
                        owner_references: Some(vec![self.owner().await?]),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                self.leases.create(&params, &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(error) if is_code(&error, 409) || is_code(&error, 404) => Ok(false),
            Err(error) => Err(error).with_context(|| cannot("write", &name)),
        }
    }

    async fn owner(&self) -> anyhow::Result<OwnerReference> {
        let map = self.maps.get(&self.config_map).await;
        let map = map.with_context(|| format!("cannot read ConfigMap {:?}", self.config_map))?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: map.name_any(),
            uid: map.uid().unwrap_or_default(),
            ..OwnerReference::default()
        })
    }
}

fn cannot(what: &str, name: &str) -> String {
    format!(
        "cannot {what} Lease {name:?}, by which nodes wait for each other, so the runtime is not started again"
    )
}

fn holder(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}
