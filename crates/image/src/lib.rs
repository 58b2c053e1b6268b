//! Container images: pull, import, verify, unpack, snapshots, garbage.
//!
//! [`ImageStore`] is a directory that several processes may use at once: the daemon, and a command line
//! that imports an image while the daemon runs. Everything in it is either complete and verified or not
//! there: content is written to a temporary place, checked, made durable and renamed.
//!
//! ```text
//! <root>/
//!   images.json                 what images there are, and their names; replaced whole, see `catalog`
//!   blobs/sha256/<hex>          manifests, indexes, configs, and layers until they are unpacked
//!   ingest/                     downloads under way; `<hex>.part` can be resumed
//!   layers/<24 hex>/            one unpacked layer: `fs/` in overlayfs' terms, `layer.json`
//!   snapshots/<key>/            `snapshot.json`, `upper/`, `work/`
//!   leases/, *.lock             locks between processes
//!   trash/                      directories on their way out
//! ```

mod blobs;
mod bounds;
mod catalog;
mod digest;
mod error;
mod files;
mod flights;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gc;
mod idmap;
mod import;
mod install;
mod layers;
mod lease;
mod lock;
mod manifest;
mod mount;
mod options;
mod platform;
mod pull;
mod reference;
mod registry;
mod snapshots;
mod space;
mod store;
mod sweeper;
mod syncer;
#[cfg(test)]
mod testing;
mod types;
mod unpack;
mod usage;

pub use digest::Digest;
pub use error::{ErrorKind, ImageError};
pub use idmap::{UserMapping, attach, clone_mapped};
pub use mount::{DetachedRoot, MountPlan};
pub use options::{StoreOptions, UnpackLimits};
pub use platform::Platform;
pub use reference::Reference;
pub use store::ImageStore;
pub use types::{
    Auth, FsInfo, GcReport, Image, ImageConfig, ImageUser, ImportReport, Progress, ProgressFn,
    PullRequest, Removed, Snapshot, SnapshotKind, Usage,
};
