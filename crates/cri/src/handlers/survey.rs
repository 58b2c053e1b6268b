//! A configuration, judged: all that is wrong with it, and not only what a start stumbles over first.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::import::{Imported, Warning};
use super::table::HandlerTable;
use super::{HandlerRefused, HandlersError};
use crate::error::chain;

/// The handlers of a source and what is wrong with its files.
#[derive(Debug)]
pub struct Survey {
    table: HandlerTable,
    refused: Vec<HandlersError>,
}

impl Survey {
    pub(super) fn of(mut imported: Imported, embedded: &[OsString]) -> Result<Self, HandlersError> {
        let refused = std::mem::take(&mut imported.refused);
        let table = HandlerTable::look(imported, embedded, &BTreeMap::new())?;
        Ok(Self { table, refused })
    }

    /// The handlers; no gVisor was tried out yet.
    #[must_use]
    pub fn table(&self) -> &HandlerTable {
        &self.table
    }

    /// Why no start goes on with it, apart from handlers that can't run.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let mut all: Vec<String> = self.refused.iter().map(|error| chain(error)).collect();
        if let Err(
            error @ HandlersError::Default {
                source: HandlerRefused::Unknown { .. },
                ..
            },
        ) = &self.table.check_default()
        {
            all.push(chain(error));
        }
        all
    }

    /// Why the default handler can't run, if it can't.
    #[must_use]
    pub fn default_refused(&self) -> Option<String> {
        self.table.check_default().err().map(|error| chain(&error))
    }

    /// Settings that somebody meant to have an effect, and that have none.
    pub fn mistakes(&self) -> impl Iterator<Item = &Warning> {
        self.table
            .warnings()
            .iter()
            .filter(|warning| warning.is_mistake)
    }
}
