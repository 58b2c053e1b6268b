//! What callers of the store hand in and get back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// An image in the store. Its identity over all interfaces is `id`, the digest of its config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the config document: what CRI calls the image's id and reference.
    pub id: Digest,
    /// `docker.io/library/busybox:latest`, ..., sorted.
    pub repo_tags: Vec<String>,
    /// `docker.io/library/busybox@sha256:...`, sorted: what a registry resolves to this image.
    pub repo_digests: Vec<String>,
    /// Bytes on disk: the unpacked layers, config and manifests. Never 0.
    pub size: u64,
    /// What a container of the image starts with.
    pub config: ImageConfig,
    /// The platform that the image was made for.
    pub platform: Platform,
    /// Never to be removed by a garbage collector.
    pub pinned: bool,
    /// When the image came into the store, in seconds since 1970.
    pub added: i64,
    /// Chain ids of the layers, lowest first.
    pub layers: Vec<Digest>,
}

/// The part of an image's config that decides how its containers start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root. See [`ImageConfig::user_part`].
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Entrypoint; empty when the image has none.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the whole command when there is no entrypoint.
    pub cmd: Vec<String>,
    /// Working directory; empty is `/`.
    pub workdir: String,
    /// `SIGQUIT`, `15`, ...; empty is SIGTERM.
    pub stop_signal: String,
    /// Paths that are volumes by the image's wish.
    pub volumes: Vec<String>,
    /// `80/tcp`, ...
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// The user without its group, as CRI's `Image.uid` or `Image.username`.
    pub fn user_part(&self) -> ImageUser {
        let user = self.user.split(':').next().unwrap_or_default();
        match user.parse::<u32>() {
            Ok(uid) => ImageUser::Uid(uid),
            Err(_) if user.is_empty() => ImageUser::Uid(0),
            Err(_) => ImageUser::Name(user.to_owned()),
        }
    }
}

/// The user of an image as its config names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// A number (0 when the config says nothing).
    Uid(u32),
    /// A name, to be looked up in the image's /etc/passwd.
    Name(String),
}

/// What to pull, and how.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// The reference as a person wrote it.
    pub reference: String,
    /// Credentials, where there are some.
    pub auth: Option<Auth>,
    /// Another platform than this machine's.
    pub platform: Option<Platform>,
    /// CRI's `ImageSpec.runtime_handler`: all handlers share one store, so it is only logged.
    pub runtime_handler: Option<String>,
}

impl PullRequest {
    /// A pull without credentials.
    pub fn new(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
            ..Self::default()
        }
    }
}

/// Credentials for a registry, with the fields of CRI's `AuthConfig`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// `base64(username:password)`, used when the two above are empty.
    pub auth: String,
    /// If set, the credentials are only sent to this registry.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token, sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// A step of a pull or an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The registry is asked what the reference stands for.
    Resolving {
        /// The normalized reference.
        reference: String,
    },
    /// The manifest is known: these layers make the image.
    Resolved {
        /// Digest that the reference stands for.
        digest: Digest,
        /// Layer digest and compressed size, lowest first.
        layers: Vec<(Digest, u64)>,
    },
    /// So much of a layer is on disk.
    Downloading {
        /// The layer.
        layer: Digest,
        /// Bytes present.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer needs no download or unpacking.
    Present {
        /// The layer.
        layer: Digest,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// The layer.
        layer: Digest,
    },
    /// A layer is unpacked.
    Unpacked {
        /// The layer.
        layer: Digest,
    },
    /// A transfer failed and is tried again.
    Retrying {
        /// What.
        what: String,
        /// Why, in one line.
        reason: String,
    },
    /// The image is in the store.
    Done {
        /// Its id.
        id: Digest,
    },
}

/// Gets every [`Progress`]; must return at once.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// What an import brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The images, in the archive's order.
    pub images: Vec<Image>,
    /// Things that were passed over, one sentence each.
    pub warnings: Vec<String>,
}

/// How a snapshot may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// A container's root: writable.
    Active,
    /// Only the image, for reading (image volumes).
    View,
}

/// An overlay of an image's layers, under a key that the caller chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The caller's key, such as a container id.
    pub key: String,
    /// The image.
    pub image: Digest,
    /// Writable or not.
    pub kind: SnapshotKind,
    /// Layer directories, topmost first, as overlayfs wants them.
    pub lowerdirs: Vec<PathBuf>,
    /// Where writes go; none for a view.
    pub upper: Option<PathBuf>,
    /// overlayfs' work directory; none for a view.
    pub work: Option<PathBuf>,
    /// Where it was last mounted by [`crate::ImageStore::mount`], mounted still or not.
    pub mountpoint: Option<PathBuf>,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The image that is gone.
    pub id: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// What was freed at once; layers in use by snapshots are freed with the last of those.
    pub freed: GcReport,
}

/// What a garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs removed.
    pub blobs: u64,
    /// Layers removed.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Another process was at work, so nothing was removed; the next collection does it.
    pub deferred: bool,
}

/// Bytes and inodes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes, as allocated.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// Usage of the store and of the filesystem that it lies on (CRI `ImageFsInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// The store's root: CRI's `fs_id.mountpoint`.
    pub root: PathBuf,
    /// Blobs and unpacked layers.
    pub images: Usage,
    /// Writable parts of all snapshots.
    pub containers: Usage,
    /// The filesystem: all bytes.
    pub capacity_bytes: u64,
    /// The filesystem: bytes that may still be written.
    pub available_bytes: u64,
    /// The filesystem: free inodes.
    pub available_inodes: u64,
}
