//! The rules in the kernel: what was written, and whether it still stands.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::nft::{NftError, Standing, Table, apply};
use crate::ruleset::Ruleset;

/// Everything is written anew this often, whatever seems to stand.
const ANEW: Duration = Duration::from_secs(600);

/// One table, or several that change together.
pub(crate) struct Kept<const N: usize> {
    /// What they are for, in the log.
    purpose: &'static str,
    tables: [Table; N],
    written: Option<Written<N>>,
    /// Somebody has changed nftables since it was looked at; often it was ourselves, or for somebody else.
    doubted: bool,
}

struct Written<const N: usize> {
    rulesets: [Ruleset; N],
    /// As nft lists them; nothing before that was looked at.
    standing: Option<[Standing; N]>,
    /// When all of it was written.
    whole: Instant,
}

impl<const N: usize> Kept<N> {
    pub(crate) fn new(purpose: &'static str, tables: [Table; N]) -> Self {
        Self {
            purpose,
            tables,
            written: None,
            doubted: false,
        }
    }

    /// The first one, which names the others.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.tables.first()
    }

    /// The next [`keep`](Self::keep) checks whether the rules still stand.
    pub(crate) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Makes the rules what they have to be; true when something was written.
    ///
    /// # Errors
    /// When nft can't be run or refuses.
    pub(crate) async fn keep(&mut self, wanted: [&Ruleset; N]) -> Result<bool, NftError> {
        let changed = self.write(wanted).await?;
        self.settle().await?;
        Ok(changed)
    }

    /// As [`keep`](Self::keep), but that [`settle`](Self::settle) has to follow: what waits for the rules need not wait for that,
    /// and several changes need it once.
    ///
    /// # Errors
    /// As of [`keep`](Self::keep).
    pub(crate) async fn write(&mut self, wanted: [&Ruleset; N]) -> Result<bool, NftError> {
        if std::mem::take(&mut self.doubted)
            && let Some(known) = self.written.as_ref().and_then(|one| one.standing.as_ref())
            && self.standing().await?.as_ref() != Some(known)
        {
            warn!(
                table = self.tables.first().map(Table::words),
                "somebody has changed the rules {}; they are written anew", self.purpose
            );
            self.written = None;
        }
        let whole = match self.written.take() {
            Some(written) if written.whole.elapsed() >= ANEW => None,
            other => other,
        };
        let since = match whole {
            Some(written) if written.rulesets.iter().eq(wanted) => {
                self.written = Some(written);
                return Ok(false);
            }
            Some(written) => {
                let both = wanted.iter().zip(&written.rulesets).zip(&self.tables);
                let script: String = both
                    .map(|((wanted, old), table)| wanted.changes(old, table))
                    .collect();
                match apply(&script).await {
                    Ok(()) => written.whole,
                    Err(error) => {
                        debug!(purpose = self.purpose, %error, "the rules are not what they were; they are written anew");
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
        self.written = Some(Written {
            rulesets: wanted.map(Clone::clone),
            standing: None,
            whole: since,
        });
        Ok(true)
    }

    /// Learns how nft lists what was written, to know it again; false when that isn't what was written, since somebody has
    /// changed it already. The next [`keep`](Self::keep) writes it anew then.
    ///
    /// # Errors
    /// When nft can't be run.
    pub(crate) async fn settle(&mut self) -> Result<bool, NftError> {
        let Some(written) = self.written.take() else {
            return Ok(false);
        };
        if written.standing.is_some() {
            self.written = Some(written);
            return Ok(true);
        }
        // What was changed before is in the list.
        self.doubted = false;
        let Some(standing) = self.standing().await? else {
            return Ok(false);
        };
        let mut both = written.rulesets.iter().zip(&standing);
        let stands = both.all(|(wanted, standing)| wanted.is_whole_in(standing));
        if stands {
            let standing = Some(standing);
            self.written = Some(Written {
                standing,
                ..written
            });
        }
        Ok(stands)
    }

    /// What stands in the tables; nothing when one of them isn't there.
    async fn standing(&self) -> Result<Option<[Standing; N]>, NftError> {
        let mut all = Vec::with_capacity(N);
        for table in &self.tables {
            let Some(standing) = table.standing().await? else {
                return Ok(None);
            };
            all.push(standing);
        }
        Ok(all.try_into().ok())
    }

    /// Writes all of it over whatever is there. Who stays with which endpoint is kept, if the table is one of ours.
    async fn rebuild(&self, wanted: [&Ruleset; N]) -> Result<(), NftError> {
        let mut over = String::new();
        for (wanted, table) in wanted.iter().zip(&self.tables) {
            over += &match table.names().await? {
                Some(names) => wanted.rebuild(&names, table),
                None => wanted.anew(table),
            };
        }
        match apply(&over).await {
            Err(NftError::Refused { message }) => {
                debug!(purpose = self.purpose, message, "the tables are made anew");
                let both = wanted.iter().zip(&self.tables);
                let anew: String = both.map(|(wanted, table)| wanted.anew(table)).collect();
                apply(&anew).await
            }
            other => other,
        }
    }
}
