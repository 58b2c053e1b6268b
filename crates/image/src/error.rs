//! What can go wrong with images, said so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::platform::Platform;

/// An error of the image store. [`ImageError::kind`] sorts them for the edge (gRPC codes, exit codes).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is no image reference.
    #[error("image reference {reference:?} is not valid: {reason}")]
    BadReference {
        /// The text as given.
        reference: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The text is no digest.
    #[error("{text:?} is not a sha256 digest")]
    BadDigest {
        /// The text as given.
        text: String,
    },
    /// The text is no platform.
    #[error("{text:?} is not a platform like linux/amd64")]
    BadPlatform {
        /// The text as given.
        text: String,
    },
    /// A snapshot key that can't be a directory's name.
    #[error("snapshot key {key:?} is not valid: use 1 to 200 of A-Z a-z 0-9 _ . -")]
    BadKey {
        /// The key as given.
        key: String,
    },
    /// Several images begin with this id.
    #[error("image id {id:?} is ambiguous: {} images begin with it", .matches.len())]
    Ambiguous {
        /// The id as given.
        id: String,
        /// The ids that match.
        matches: Vec<Digest>,
    },
    /// No such image in the store.
    #[error("image {reference:?} is not in the store")]
    NotFound {
        /// The reference as given.
        reference: String,
    },
    /// No such snapshot.
    #[error("snapshot {key:?} does not exist")]
    SnapshotNotFound {
        /// The snapshot's key.
        key: String,
    },
    /// A snapshot of that key exists with another image or of another kind.
    #[error("snapshot {key:?} exists already and is of another image or kind")]
    SnapshotExists {
        /// The snapshot's key.
        key: String,
    },
    /// A snapshot can only be mounted at one place at a time.
    #[error("snapshot {key:?} is mounted at {} already", .at.display())]
    Mounted {
        /// The snapshot's key.
        key: String,
        /// Where it is mounted.
        at: PathBuf,
    },
    /// None of the offered platforms runs here.
    #[error("image {reference:?}: manifest for {} only, this machine is {wanted}", list(.offered))]
    WrongPlatform {
        /// The image.
        reference: String,
        /// What was looked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// A document of the image isn't what it should be.
    #[error("image {reference:?}: {what} is not valid: {reason}")]
    BadImage {
        /// The image.
        reference: String,
        /// Manifest, index, config, layer and its digest.
        what: String,
        /// Why.
        reason: String,
    },
    /// A layer is no archive that can be unpacked.
    #[error("layer {layer} is not valid: {reason}")]
    BadLayer {
        /// The layer's digest.
        layer: String,
        /// Why.
        reason: String,
    },
    /// Content does not have the digest or size that it was announced with.
    #[error("{what} is damaged: expected {expected}, got {actual}")]
    Mismatch {
        /// The blob.
        what: String,
        /// The digest or size it should have.
        expected: String,
        /// The one it has.
        actual: String,
    },
    /// The registry doesn't have it.
    #[error("image {reference:?}: registry {registry} has no such {what}")]
    Unknown {
        /// The image.
        reference: String,
        /// The registry asked last.
        registry: String,
        /// Manifest or blob.
        what: String,
    },
    /// The registry wants (other) credentials.
    #[error(
        "image {reference:?}: registry {registry} refused access ({detail}); does it exist, and is a pull secret needed?"
    )]
    Denied {
        /// The image.
        reference: String,
        /// The registry.
        registry: String,
        /// What it answered.
        detail: String,
    },
    /// The registry could not be reached or failed.
    #[error("image {reference:?}: registry {registry} {detail}")]
    Registry {
        /// The image.
        reference: String,
        /// The registry.
        registry: String,
        /// What happened, with a hint.
        detail: String,
    },
    /// A `hosts.toml` or a certificate beside it can't be used.
    #[error("registry configuration {}: {reason}", .path.display())]
    HostsConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The archive to import isn't one.
    #[error("{}: {reason}", .path.display())]
    Archive {
        /// The file or directory.
        path: PathBuf,
        /// Why it can't be imported.
        reason: String,
    },
    /// A layer holds something that must not or can't be unpacked.
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    BadEntry {
        /// The layer's diff id.
        layer: String,
        /// The entry's name.
        entry: String,
        /// Why.
        reason: String,
    },
    /// A layer is larger than the limits allow.
    #[error("layer {layer} is over the limit: {limit}")]
    OverLimit {
        /// The layer's diff id.
        layer: String,
        /// The limit that was hit, with its number and setting.
        limit: String,
    },
    /// An image is larger than the limits allow.
    #[error("image {reference:?} is over the limit: {limit}")]
    ImageOverLimit {
        /// The image.
        reference: String,
        /// The limit that was hit, with its number.
        limit: String,
    },
    /// The disk would be too full.
    #[error(
        "no space left on device: {action} needs {needed} bytes more on the disk of {}, where {free} are free, {promised} of them \
         awaited by other pulls and {kept} kept for the database; nothing was changed, remove images or free some space and try again",
        .path.display()
    )]
    LowSpace {
        /// Where.
        path: PathBuf,
        /// What was to be done.
        action: &'static str,
        /// Bytes that it would take.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that stay free.
        kept: u64,
        /// Bytes that others were promised and have not written yet.
        promised: u64,
    },
    /// The disk would have too few inodes.
    #[error(
        "no space left on device: {action} on the disk of {}, which has only {free} inodes left; nothing was changed, remove \
         images or files and try again",
        .path.display()
    )]
    NoInodes {
        /// Where.
        path: PathBuf,
        /// What was to be done.
        action: &'static str,
        /// Inodes that are free.
        free: u64,
    },
    /// The disk is full.
    #[error("no space left on device: {} while {action}; nothing was changed, free some space and try again", .path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
    },
    /// The directory is not an image store of this version.
    #[error("{} is not an image store that can be used: {reason}", .path.display())]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refused something.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The operation was cut short because its process is stopping.
    #[error("image work was cancelled while {action}")]
    Cancelled {
        /// What was being done.
        action: &'static str,
    },
}

/// What an edge needs to know of an error: one gRPC code each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's words make no sense: InvalidArgument.
    Invalid,
    /// No such image or snapshot: NotFound.
    NotFound,
    /// AlreadyExists.
    Exists,
    /// Credentials: PermissionDenied.
    Denied,
    /// The registry is out of reach or failing: Unavailable.
    Unavailable,
    /// Disk or limits: ResourceExhausted.
    Exhausted,
    /// The content is damaged or hostile: FailedPrecondition.
    Corrupt,
    /// Cancelled.
    Cancelled,
    /// Anything else: Internal.
    Internal,
}

impl ImageError {
    /// Which code the error gets at an edge.
    pub fn kind(&self) -> ErrorKind {
        use ImageError as E;
        match self {
            E::BadReference { .. }
            | E::BadDigest { .. }
            | E::BadPlatform { .. }
            | E::BadKey { .. } => ErrorKind::Invalid,
            E::Ambiguous { .. } | E::HostsConfig { .. } | E::Archive { .. } => ErrorKind::Invalid,
            E::NotFound { .. } | E::SnapshotNotFound { .. } | E::Unknown { .. } => {
                ErrorKind::NotFound
            }
            E::WrongPlatform { .. } => ErrorKind::NotFound,
            E::SnapshotExists { .. } | E::Mounted { .. } => ErrorKind::Exists,
            E::Denied { .. } => ErrorKind::Denied,
            E::Registry { .. } => ErrorKind::Unavailable,
            E::NoSpace { .. }
            | E::LowSpace { .. }
            | E::NoInodes { .. }
            | E::OverLimit { .. }
            | E::ImageOverLimit { .. } => ErrorKind::Exhausted,
            E::BadImage { .. } | E::BadLayer { .. } | E::Mismatch { .. } | E::BadEntry { .. } => {
                ErrorKind::Corrupt
            }
            E::Cancelled { .. } => ErrorKind::Cancelled,
            E::Store { .. } | E::Io { .. } => ErrorKind::Internal,
        }
    }

    /// The error, then the system's reason where there is one, in one line.
    pub fn report(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }

    /// Wraps an I/O error; a full disk becomes [`ImageError::NoSpace`].
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        let (path, source) = (path.as_ref().to_owned(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, action }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.join(", ")
}
