//! Settings of a store.

use std::path::PathBuf;

use crate::platform::Platform;

/// Settings of [`crate::ImageStore::open`].
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The platform whose images are chosen from an index.
    pub platform: Platform,
    /// Directories with `<host>/hosts.toml`, first hit wins; containerd's is `/etc/containerd/certs.d`.
    pub hosts_dirs: Vec<PathBuf>,
    /// References of images that are always shown as pinned.
    pub pinned: Vec<String>,
    /// Layers that one pull downloads at a time.
    pub downloads_per_pull: usize,
    /// Bounds for what is unpacked.
    pub limits: UnpackLimits,
    /// Keep the compressed layers after unpacking them. Only exporting or pushing would need them.
    pub keep_layer_blobs: bool,
    /// Mount writable snapshots with overlayfs' `volatile` where the kernel has it, so that the end of a
    /// container never waits for the disk. What a container wrote to its root is then not safe from a
    /// power cut; nothing in CRI reads it after one.
    pub volatile: bool,
    /// An existing directory with a short path for links to layers, by which [`crate::ImageStore::plan_root`] names many of
    /// them; without it names are as long as they are.
    pub links: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            hosts_dirs: [
                "/etc/berth/certs.d",
                "/etc/containerd/certs.d",
                "/etc/docker/certs.d",
            ]
            .map(PathBuf::from)
            .to_vec(),
            pinned: Vec::new(),
            downloads_per_pull: 3,
            limits: UnpackLimits::default(),
            keep_layer_blobs: false,
            volatile: true,
            links: None,
        }
    }
}

/// Bounds against images that are small to name and huge to store. They hold for all layers of an image
/// together; an image over any of them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the unpacked layers.
    pub bytes: u64,
    /// Entries of the layers.
    pub entries: u64,
    /// Bytes of the compressed layers, as the manifest declares them and as they are downloaded.
    pub download: u64,
    /// How many times larger than their compressed form the layers may be, once they are past `ratio_from`.
    pub ratio: u64,
    /// Bytes up to which the ratio is not looked at.
    pub ratio_from: u64,
    /// Bytes that stay free on the store's filesystem, for the database and pods that share it.
    pub keep_free: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            bytes: 128 << 30,
            entries: 4_000_000,
            download: 64 << 30,
            ratio: 200,
            ratio_from: 1 << 30,
            keep_free: 256 << 20,
        }
    }
}
