//! Node ports: which Service has which, in blocks of neighbours.
//!
//! A block is a record of its own in the store, so that Services which take ports at the same time seldom meet, and one
//! with hundreds of ports touches few of them. It names the holder of each port: nobody gives back what is another's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use berth_api::status::ApiError;
use berth_rules::kinds::service::{Holder, PortError};
use berth_store::Expect;
use k8s_openapi::api::core::v1::Service;
use rand::RngExt;
use serde_json::{Value, json};

use crate::storage::{Beside, Storage};

/// Where the blocks are kept; no kind of the API has this storage name.
pub(crate) const BLOCKS: &str = "berth/servicenodeports";
/// Ports in a block.
const BLOCK: u16 = 128;

/// A Service as the holder of ports: namespace, name and UID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner(String);

impl Owner {
    /// A Service.
    pub(crate) fn of(service: Option<&Service>) -> Self {
        let Some(service) = service else {
            return Self::default();
        };
        let metadata = &service.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        // No name has a slash.
        Self(format!(
            "{}/{}/{}",
            text(&metadata.namespace),
            text(&metadata.name),
            text(&metadata.uid)
        ))
    }
}

/// The ports of one block.
#[derive(Clone, Debug)]
struct Block {
    expect: Expect,
    holders: BTreeMap<u16, Owner>,
    changed: bool,
}

/// Takes and gives back ports for one owner; what comes of it is written with the Service.
pub(crate) struct Ledger<'a> {
    storage: &'a Storage,
    range: RangeInclusive<u16>,
    owner: Owner,
    blocks: BTreeMap<u16, Block>,
    error: Option<ApiError>,
}

impl<'a> Ledger<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(storage: &'a Storage, range: RangeInclusive<u16>, owner: Owner) -> Self {
        Self {
            storage,
            range,
            owner,
            blocks: BTreeMap::new(),
            error: None,
        }
    }

    /// The writes that make it so.
    ///
    /// # Errors
    /// When a block could not be read: then nothing about it is known.
    pub(crate) fn into_writes(self) -> Result<Vec<Beside>, ApiError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let nothing = |block: &Block| block.holders.is_empty() && block.expect == Expect::Absent;
        let changed = self
            .blocks
            .into_iter()
            .filter(|(_, block)| block.changed && !nothing(block));
        changed
            .map(|(number, block)| {
                let name = number.to_string();
                if block.holders.is_empty() {
                    return Ok(Beside::remove(BLOCKS, "", &name, block.expect));
                }
                let ports: BTreeMap<String, String> = block
                    .holders
                    .into_iter()
                    .map(|(port, owner)| (port.to_string(), owner.0))
                    .collect();
                let record = json!({"metadata": {"name": name}, "ports": ports});
                Beside::put(BLOCKS, "", &name, block.expect, record)
            })
            .collect()
    }

    /// Who has a port; none for a free one, or when its block can't be read.
    pub(crate) fn holder(&mut self, port: u16) -> Option<&Owner> {
        self.block(port / BLOCK)?.holders.get(&port)
    }

    /// Takes a port for another owner, whatever the range is: it has it.
    pub(crate) fn record(&mut self, port: u16, owner: Owner) {
        if let Some(block) = self.block(port / BLOCK) {
            block.holders.insert(port, owner);
            block.changed = true;
        }
    }

    /// Forgets who has a port.
    pub(crate) fn forget(&mut self, port: u16) {
        if let Some(block) = self.block(port / BLOCK) {
            block.changed |= block.holders.remove(&port).is_some();
        }
    }

    fn block(&mut self, number: u16) -> Option<&mut Block> {
        if !self.blocks.contains_key(&number) {
            match read(self.storage, number) {
                Ok(block) => {
                    self.blocks.insert(number, block);
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
        }
        self.blocks.get_mut(&number)
    }

    /// Takes a free port of a block.
    fn take_in(&mut self, number: u16) -> Option<u16> {
        let (owner, range) = (self.owner.clone(), self.range.clone());
        let block = self.block(number)?;
        let first = number.saturating_mul(BLOCK);
        let last = first.saturating_add(BLOCK - 1);
        let port = (first..=last)
            .find(|port| range.contains(port) && !block.holders.contains_key(port))?;
        block.holders.insert(port, owner);
        block.changed = true;
        Some(port)
    }
}

impl Holder for Ledger<'_> {
    fn take(&mut self, port: i32) -> Result<(), PortError> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let port = u16::try_from(port)
            .ok()
            .filter(|port| self.range.contains(port))
            .ok_or_else(|| PortError::NotInRange(format!("{first}-{last}")))?;
        let owner = self.owner.clone();
        let block = self.block(port / BLOCK).ok_or(PortError::Allocated)?;
        if block.holders.contains_key(&port) {
            return Err(PortError::Allocated);
        }
        block.holders.insert(port, owner);
        block.changed = true;
        Ok(())
    }

    fn take_any(&mut self) -> Result<i32, PortError> {
        let first = *self.range.start() / BLOCK;
        let last = *self.range.end() / BLOCK;
        // Where this Service has ports already, then from anywhere on.
        let own = self.blocks.iter().filter(|(_, block)| block.changed);
        let own: Vec<u16> = own.map(|(number, _)| *number).collect();
        let start = rand::rng().random_range(first..=last);
        let all = own.into_iter().chain(start..=last).chain(first..start);
        for number in all {
            if let Some(port) = self.take_in(number) {
                return Ok(i32::from(port));
            }
        }
        Err(PortError::Full)
    }

    fn release(&mut self, port: i32) {
        let Ok(port) = u16::try_from(port) else {
            return;
        };
        let owner = self.owner.clone();
        if self.holder(port) == Some(&owner) {
            self.forget(port);
        }
    }
}

fn read(storage: &Storage, number: u16) -> Result<Block, ApiError> {
    let Some(stored) = storage.get(BLOCKS, "", &number.to_string()) else {
        return Ok(Block {
            expect: Expect::Absent,
            holders: BTreeMap::new(),
            changed: false,
        });
    };
    Ok(Block {
        expect: Expect::Revision(stored.revision),
        holders: holders(&stored.value()?).collect(),
        changed: false,
    })
}

fn holders(record: &Value) -> impl Iterator<Item = (u16, Owner)> {
    let ports = record["ports"].as_object().cloned().unwrap_or_default();
    ports
        .into_iter()
        .filter_map(|(port, owner)| Some((port.parse().ok()?, Owner(owner.as_str()?.to_owned()))))
}

/// All ports that somebody has, with their holders.
///
/// # Errors
/// When a block can't be read.
pub(crate) fn in_use(storage: &Storage) -> Result<Vec<(u16, Owner)>, ApiError> {
    let mut all = Vec::new();
    for stored in storage.list(BLOCKS, None) {
        all.extend(holders(&stored.value()?));
    }
    Ok(all)
}
