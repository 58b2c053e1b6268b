//! Images that are small to name and huge to store, and disks that are small.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::{ImageStore, UnpackLimits};

/// A store on a filesystem of its own.
struct SmallDisk {
    dir: tempfile::TempDir,
    store: ImageStore,
}

impl SmallDisk {
    fn new(size: u64, keep_free: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount(
            "tmpfs",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        let options = StoreOptions {
            hosts_dirs: Vec::new(),
            limits: UnpackLimits {
                keep_free,
                ..UnpackLimits::default()
            },
            ..StoreOptions::default()
        };
        let store = ImageStore::open(dir.path().join("store"), options).unwrap();
        Self { dir, store }
    }

    /// Files that are left of a pull.
    fn left(&self) -> Vec<PathBuf> {
        ["ingest", "blobs/sha256", "layers"]
            .iter()
            .flat_map(|directory| fs::read_dir(self.store.root().join(directory)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

fn limited(limits: UnpackLimits) -> TestStore {
    TestStore::with(StoreOptions {
        hosts_dirs: Vec::new(),
        limits,
        ..StoreOptions::default()
    })
}

async fn refused(limits: UnpackLimits, image: TestImage, says: &str) {
    let fake = Fake::start(move |request| serve(&image, request)).await;
    let test = limited(limits);
    let error = pull(&test, &format!("{}/x:1", fake.address))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(test.store.list().unwrap().is_empty());
    test.store.gc().unwrap();
    for directory in ["ingest", "layers", "blobs/sha256"] {
        assert!(
            test.names(directory).is_empty(),
            "{directory} after {error}"
        );
    }
}

fn four(layer: &Layer) -> TestImage {
    // Different, so that none is a copy of another.
    let layers: Vec<Layer> = (0..4)
        .map(|n| layer.clone().file(&format!("n{n}"), ""))
        .collect();
    TestImage::new(&layers)
}

#[tokio::test]
async fn layers_count_together() {
    let base = UnpackLimits::default();
    let mib = Layer::new().file("zeros", &"\0".repeat(1 << 20));
    let limits = UnpackLimits {
        bytes: 3 << 20,
        ..base
    };
    refused(limits, four(&mib), "3145728 bytes").await;
    let limits = UnpackLimits {
        ratio: 50,
        ratio_from: 3 << 20,
        ..base
    };
    refused(limits, four(&mib), "50 times").await;
    let files = Layer::new().file("a", "").file("b", "").file("c", "");
    let limits = UnpackLimits {
        entries: 10,
        ..base
    };
    refused(limits, four(&files), "10 entries").await;
    // Each of them alone is within these.
    for fine in [
        UnpackLimits {
            bytes: 5 << 20,
            ..base
        },
        UnpackLimits {
            entries: 20,
            ..base
        },
    ] {
        let image = four(&mib);
        let fake = Fake::start(move |request| serve(&image, request)).await;
        pull(&limited(fine), &format!("{}/x:1", fake.address))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_manifest_that_declares_too_much_is_refused_before_any_layer() {
    let layer = |size: u64| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": size, "digest": Digest::of(b"x")});
    for (layers, says) in [
        (vec![layer(1); 501], "501 layers"),
        (vec![layer(u64::MAX); 2], "bytes of compressed layers"),
        (
            vec![layer(60 << 30), layer(5 << 30)],
            "bytes of compressed layers",
        ),
    ] {
        let mut image = image();
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        manifest["layers"] = layers.into();
        image.manifest = manifest.to_string().into_bytes();
        let fake = Fake::start(move |request| serve(&image, request)).await;
        let error = pull(&TestStore::new(), &format!("{}/x:1", fake.address))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(fake.seen("/blobs/").is_empty());
    }
}

#[tokio::test]
async fn an_index_that_lies_about_a_size_is_refused() {
    let image = image();
    let mut entry = image.descriptor(None, "amd64");
    entry["size"] = 7.into();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let fake = Fake::start(move |request| {
        if request.target.ends_with("/manifests/1") {
            Answer::ok(index.as_bytes())
        } else {
            serve(&image, request)
        }
    })
    .await;
    let error = pull(&TestStore::new(), &format!("{}/x:1", fake.address))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expected 7 bytes"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_not_begun() {
    let image = large();
    let served = image.clone();
    let fake = Fake::start(move |request| serve(&served, request)).await;
    let disk = SmallDisk::new(16 << 20, 15 << 20);
    let request = PullRequest::new(format!("{}/x:1", fake.address));
    let error = disk.store.pull(request, silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(
        error.to_string().contains("no space left on device")
            && error.to_string().contains("15728640 kept for the database"),
        "{error}"
    );
    assert!(
        fake.seen(Digest::of(&image.layers[0].1).as_str())
            .is_empty()
    );
    assert!(disk.left().is_empty(), "{:?}", disk.left());
}

#[tokio::test]
async fn a_disk_that_gets_too_full_while_unpacking_is_left_as_it_was() {
    // The compressed layer fits, what comes out of it does not.
    let image = TestImage::new(&[Layer::new().file("zeros", &"\0".repeat(14 << 20))]);
    let served = image.clone();
    let fake = Fake::start(move |request| serve(&served, request)).await;
    let disk = SmallDisk::new(16 << 20, 1 << 20);
    let request = PullRequest::new(format!("{}/x:1", fake.address));
    let error = disk.store.pull(request, silent()).await.unwrap_err();
    assert!(
        error.to_string().contains("no space left on device"),
        "{error}"
    );
    assert!(
        !fake
            .seen(Digest::of(&image.layers[0].1).as_str())
            .is_empty()
    );
    assert!(disk.left().is_empty(), "{:?}", disk.left());
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_do_not_count_on_the_same_free_bytes() {
    let (one, two) = (large(), large_from(100_000));
    let size = one.layers[0].1.len();
    let (first, layer) = (one.clone(), Digest::of(&one.layers[0].1).to_string());
    let stalling = Fake::start(move |request| {
        let mut answer = serve(&first, request);
        if request.target.contains(&layer) {
            answer.cut = Some(1000);
            answer.stall = true;
        }
        answer
    })
    .await;
    let second = two.clone();
    let fake = Fake::start(move |request| serve(&second, request)).await;
    // Space for one and a half of them.
    let disk = SmallDisk::new(32 << 20, (32 << 20) - size as u64 * 3 / 2);
    let (store, reference) = (disk.store.clone(), format!("{}/x:1", stalling.address));
    let waiting =
        tokio::spawn(async move { store.pull(PullRequest::new(reference), silent()).await });
    let part = disk.store.root().join(format!(
        "ingest/{}.part",
        Digest::of(&one.layers[0].1).hex()
    ));
    let end = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&part).map_or(0, |found| found.len()) < 1000 {
        assert!(Instant::now() < end, "the download does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = || PullRequest::new(format!("{}/x:1", fake.address));
    let error = disk.store.pull(request(), silent()).await.unwrap_err();
    assert!(matches!(error, ImageError::LowSpace { .. }), "{error}");
    assert!(fake.seen(Digest::of(&two.layers[0].1).as_str()).is_empty());
    waiting.abort();
    let _ = waiting.await;
    // Nobody awaits it any more. What is unpacked is reserved in larger steps, so only the download fits.
    while let Err(error) = disk.store.pull(request(), silent()).await {
        if !fake.seen(Digest::of(&two.layers[0].1).as_str()).is_empty() {
            break;
        }
        assert!(Instant::now() < end, "{error}");
    }
}
