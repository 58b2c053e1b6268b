//! The rules in the kernel: what was written, and whether it still stands.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::nft::{NftError, Standing, Table};
use crate::ruleset::Ruleset;

/// Everything is written anew this often, whatever seems to stand.
const ANEW: Duration = Duration::from_secs(600);

pub(crate) struct Kept {
    table: Table,
    written: Option<Written>,
    /// Somebody has changed nftables since it was looked at; often it was ourselves, or for somebody else.
    doubted: bool,
}

struct Written {
    ruleset: Ruleset,
    /// As nft listed it right after.
    standing: Standing,
    /// When all of it was written.
    whole: Instant,
}

impl Kept {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            table,
            written: None,
            doubted: false,
        }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The next [`keep`](Self::keep) checks whether the rules still stand.
    pub(crate) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Makes the rules what they have to be; true when something was written.
    ///
    /// # Errors
    /// When nft can't be run or refuses.
    pub(crate) async fn keep(&mut self, wanted: &Ruleset) -> Result<bool, NftError> {
        if let Some(written) = &self.written
            && self.doubted
        {
            let standing = self.table.standing().await?;
            if standing.as_ref() != Some(&written.standing) {
                warn!(table = %self.table, "somebody has changed the rules of Services; they are written anew");
                self.written = None;
            }
        }
        self.doubted = false;
        let whole = match self.written.take() {
            Some(written) if written.whole.elapsed() >= ANEW => None,
            other => other,
        };
        let since = match whole {
            Some(written) if written.ruleset == *wanted => {
                self.written = Some(written);
                return Ok(false);
            }
            Some(written) => {
                let script = wanted.changes(&written.ruleset, &self.table);
                match self.table.apply(&script).await {
                    Ok(()) => written.whole,
                    Err(error) => {
                        debug!(table = %self.table, %error, "the rules are not what they were; they are written anew");
                        self.rebuild(wanted).await?;
                        Instant::now()
                    }
                }
            }
            None => {
                self.rebuild(wanted).await?;
                Instant::now()
            }
        };
        // Otherwise somebody has changed it already: the kernel tells of that, and it is written anew then.
        self.written = self
            .table
            .standing()
            .await?
            .filter(|standing| wanted.is_whole_in(standing))
            .map(|standing| Written {
                ruleset: wanted.clone(),
                standing,
                whole: since,
            });
        Ok(true)
    }

    /// Writes all of it over whatever is there. Who stays with which endpoint is kept, if the table is one of ours.
    async fn rebuild(&self, wanted: &Ruleset) -> Result<(), NftError> {
        let over = match self.table.names().await? {
            Some(names) => {
                let script = wanted.rebuild(&names, &self.table);
                self.table.apply(&script).await
            }
            None => self.table.apply(&wanted.anew(&self.table)).await,
        };
        match over {
            Err(NftError::Refused { message }) => {
                debug!(table = %self.table, message, "the table is made anew");
                self.table.apply(&wanted.anew(&self.table)).await
            }
            other => other,
        }
    }
}
