//! Images made by hand, for tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::digest::Digest;
use crate::options::StoreOptions;
use crate::store::ImageStore;
use crate::types::ProgressFn;

/// A layer's tar, entry by entry; names and links go in as they are, however hostile.
#[derive(Default, Clone)]
pub(crate) struct Layer(Vec<u8>);

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut stream = crate::unpack::TarStream::new(self.0.as_slice());
        let mut list = f.debug_list();
        while let Ok(Some(entry)) = stream.next() {
            let (path, link) = (
                String::from_utf8_lossy(&entry.path),
                String::from_utf8_lossy(&entry.link),
            );
            list.entry(&format!("{:?} {path:?} {link:?}", entry.kind));
        }
        list.finish()
    }
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    pub(crate) fn file(self, path: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, data.as_bytes())
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    pub(crate) fn entry(
        self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        data: &[u8],
    ) -> Self {
        self.header(kind, path, link, |header| header.set_mode(mode), data)
    }

    pub(crate) fn header(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        change: impl FnOnce(&mut Header),
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        self.entry(EntryType::XHeader, "pax", "", 0o644, &data)
    }

    /// The finished archive.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// How a layer is compressed in an image.
#[derive(Clone, Copy)]
pub(crate) enum Packing {
    Tar,
    Gzip,
    Zstd,
}

/// An image's documents and layers.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) config: Vec<u8>,
    /// Uncompressed and compressed.
    pub(crate) layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) manifest: Vec<u8>,
}

impl TestImage {
    pub(crate) fn new(layers: &[Layer]) -> Self {
        let packed: Vec<_> = layers.iter().map(|l| (l.clone(), Packing::Gzip)).collect();
        Self::packed(&packed, "amd64")
    }

    pub(crate) fn packed(layers: &[(Layer, Packing)], architecture: &str) -> Self {
        let layers: Vec<_> = layers
            .iter()
            .map(|(layer, packing)| {
                let tar = layer.tar();
                let packed = match packing {
                    Packing::Tar => tar.clone(),
                    Packing::Gzip => gzip(&tar),
                    Packing::Zstd => zstd(&tar),
                };
                (tar, packed)
            })
            .collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["A=b"], "User": "1000:50", "WorkingDir": "/w", "StopSignal": "SIGQUIT",
                       "Volumes": {"/data": {}}, "Labels": {"l": "v"}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(t, _)| Digest::of(t).to_string()).collect::<Vec<_>>()},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": Digest::of(bytes)});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|(_, p)| descriptor("application/vnd.oci.image.layer.v1.tar", p)).collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Self {
            config,
            layers,
            manifest,
        }
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// All blobs, the manifest too.
    pub(crate) fn blobs(&self) -> Vec<&[u8]> {
        let packed = self.layers.iter().map(|(_, p)| p.as_slice());
        packed
            .chain([self.config.as_slice(), self.manifest.as_slice()])
            .collect()
    }

    pub(crate) fn descriptor(&self, name: Option<&str>, architecture: &str) -> Value {
        let mut descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": self.manifest.len(),
            "digest": Digest::of(&self.manifest), "platform": {"os": "linux", "architecture": architecture},
        });
        if let Some(name) = name {
            descriptor["annotations"] = json!({"io.containerd.image.name": name});
        }
        descriptor
    }

    /// Writes an OCI layout directory.
    pub(crate) fn layout(images: &[(&TestImage, Option<&str>, &str)], at: &Path) {
        std::fs::create_dir_all(at.join("blobs/sha256")).unwrap();
        std::fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        for blob in images.iter().flat_map(|(image, ..)| image.blobs()) {
            std::fs::write(at.join("blobs/sha256").join(Digest::of(blob).hex()), blob).unwrap();
        }
        let manifests: Vec<Value> = images
            .iter()
            .map(|(i, name, arch)| i.descriptor(*name, arch))
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        std::fs::write(at.join("index.json"), index.to_string()).unwrap();
    }

    /// The tar of `docker save`, its manifest last.
    pub(crate) fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut put = |name: &str, data: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data).unwrap();
        };
        let mut names = Vec::new();
        for (number, (tar, _)) in self.layers.iter().enumerate() {
            names.push(format!("{number}/layer.tar"));
            put(&names[number], tar);
        }
        let config = format!("{}.json", self.id().hex());
        put(&config, &self.config);
        let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": names}]);
        put("manifest.json", manifest.to_string().as_bytes());
        builder.into_inner().unwrap()
    }
}

/// A directory's tar.
pub(crate) fn tar_of(directory: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", directory).unwrap();
    builder.into_inner().unwrap()
}

/// A store in a directory of its own.
pub(crate) struct TestStore {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: ImageStore,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(StoreOptions {
            hosts_dirs: Vec::new(),
            ..StoreOptions::default()
        })
    }

    pub(crate) fn with(options: StoreOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("store"), options).unwrap();
        Self { dir, store }
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn target(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Names in one of the store's directories.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join(directory)).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

pub(crate) fn silent() -> ProgressFn {
    Arc::new(|_| {})
}
