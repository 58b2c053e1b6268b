//! What a pod costs its node beyond what its containers use: the arithmetic behind `overhead.podFixed`.
//!
//! ```text
//!   figures of one sandbox, at two times        sample::cost      -> Cost (by parts), idle or under load
//!   costs of all sandboxes of a class           ledger::Ledger    -> ClassReport (p50, p99, max)
//!   a report                                    proposal::propose -> what podFixed would have to be
//!   a report and what the class declares        verdict::judge    -> whether they agree
//! ```
//!
//! Everything here is a function of its inputs. Who reads the figures is `berth node`; docs/overhead.md says what they are
//! and how far they can be off.

mod histogram;
mod ledger;
mod parts;
mod proposal;
mod report;
mod sample;
mod verdict;

pub use histogram::Histogram;
pub use ledger::{ClassKey, Ledger, MAX_CLASSES, WINDOW_SECONDS};
pub use parts::{Parts, State};
pub use proposal::{Proposal, propose};
pub use report::{ClassReport, NodeReport, Quantiles, SandboxReport, StateReport};
pub use sample::{Amount, Cost, Figures, Skipped, cost};
pub use verdict::{Declared, Direction, Verdict, Verdicts, judge};
