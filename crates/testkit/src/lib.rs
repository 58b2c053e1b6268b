//! Builders, fakes and `wait_for` for tests; a dev-dependency only.
//!
//! Nothing here is used by the product: a test names what it needs of an object and
//! leaves the rest to the builder, and waits for a condition with a deadline instead of sleeping.

#[allow(clippy::expect_used, reason = "a test ends with what was expected")]
mod changed;
#[allow(clippy::expect_used, reason = "a test ends with what was expected")]
mod etcd;
mod objects;
mod wait;

pub use changed::each_seed_changed;
pub use etcd::{EtcdServer, free_port};
pub use objects::{NodeBuilder, PodBuilder, runtime_class};
pub use wait::{wait_for, wait_for_async};
