//! What every long-running role shares: tasks that have an owner, and failures that repeat.
//!
//! | type | what it is for |
//! |---|---|
//! | [`Tasks`] | spawns the tasks of a role, learns of their panics and unexpected ends, drains them at the end |
//! | [`Outage`] | says that something does not work, at once and then seldom, and that it works again |
//! | [`restart_on_panic`] | starts work anew that panicked, where that is safe |
//! | [`unblock`] | runs what blocks beside the async workers |
//! | [`measures`] | what clients and controllers count |
//! | [`Brief`] | what an error of the API client says, in one line (feature `kube`) |

#[cfg(feature = "kube")]
mod brief;
mod chain;
pub mod measures;
mod outage;
mod restart;
mod tasks;

#[cfg(feature = "kube")]
pub use brief::{Brief, BriefWatch};
pub use chain::Chain;
pub use outage::Outage;
pub use restart::restart_on_panic;
pub use tasks::{TaskError, Tasks, panic_reason, unblock};
