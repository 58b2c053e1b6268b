use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::testing::{Layer, Packing, TestImage, TestStore, gzip, silent, tar_of, zstd};
use crate::{Digest, ErrorKind, ImageStore, StoreOptions};

fn two_layers() -> TestImage {
    TestImage::new(&[
        Layer::new()
            .dir("etc", 0o755)
            .file("etc/a", "lower")
            .file("etc/b", "gone")
            .dir("old", 0o700)
            .file("old/x", "x"),
        Layer::new()
            .dir("etc", 0o750)
            .file("etc/a", "upper")
            .file("etc/.wh.b", "")
            .file("old/.wh..wh..opq", ""),
    ])
}

#[tokio::test]
async fn a_layout_is_imported_mounted_and_removed() {
    let test = TestStore::new();
    let image = two_layers();
    let layout = test.dir.path().join("layout");
    TestImage::layout(&[(&image, Some("example.com/x:1"), "amd64")], &layout);
    let report = test.store.import(&layout, None, silent()).await.unwrap();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let [found] = report.images.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(found.id, image.id());
    assert_eq!(found.repo_tags, ["example.com/x:1"]);
    assert_eq!(
        found.repo_digests,
        [format!("example.com/x@{}", Digest::of(&image.manifest))]
    );
    assert_eq!(
        (
            found.config.user.as_str(),
            found.config.stop_signal.as_str()
        ),
        ("1000:50", "SIGQUIT")
    );
    assert!(found.size > 0);
    for name in [
        "example.com/x:1",
        &found.repo_digests[0],
        found.id.as_str(),
        found.id.hex(),
        &found.id.hex()[..12],
    ] {
        assert_eq!(
            test.store.get(name).unwrap().as_ref(),
            Some(found),
            "{name}"
        );
    }
    assert!(test.names("ingest").is_empty(), "nothing is left over");
    assert_eq!(
        test.names("blobs/sha256").len(),
        2,
        "only the manifest and the config are kept"
    );

    let root = test.target("root");
    let snapshot = test.store.prepare("c1", "example.com/x:1").unwrap();
    assert_eq!(
        test.store.prepare("c1", found.id.as_str()).unwrap(),
        snapshot,
        "the same again is the same"
    );
    test.store.mount("c1", &root).unwrap();
    test.store.mount("c1", &root).unwrap();
    assert_eq!(fs::read_to_string(root.join("etc/a")).unwrap(), "upper");
    assert!(!root.join("etc/b").exists() && !root.join("old/x").exists());
    assert_eq!(
        fs::metadata(root.join("etc")).unwrap().mode() & 0o7777,
        0o750
    );
    assert_eq!(
        fs::metadata(root.join("old")).unwrap().mode() & 0o7777,
        0o700,
        "as the layer below has it"
    );
    fs::write(root.join("etc/new"), vec![1; 100_000]).unwrap();
    assert!(test.store.snapshot_usage("c1").unwrap().bytes >= 100_000);

    let removed = test.store.remove("example.com/x:1").unwrap().unwrap();
    assert_eq!(removed.freed.layers, 0, "the snapshot needs them");
    assert!(test.store.get("example.com/x:1").unwrap().is_none());
    assert_eq!(fs::read_to_string(root.join("etc/a")).unwrap(), "upper");
    test.store.remove_snapshot("c1").unwrap();
    test.store.remove_snapshot("c1").unwrap();
    assert!(!root.join("etc").exists(), "unmounted");
    assert!(test.names("layers").is_empty() && test.names("snapshots").is_empty());
    assert!(test.names("blobs/sha256").is_empty());
}

#[tokio::test]
async fn archives_of_all_kinds_give_the_same_image() {
    let image = two_layers();
    let made = TestStore::new();
    let layout = made.dir.path().join("layout");
    TestImage::layout(&[(&image, Some("x:1"), "amd64")], &layout);
    let docker = image.docker_archive(&["x:1"]);
    let oci = tar_of(&layout);
    for (name, bytes) in [
        ("docker.tar", docker.clone()),
        ("docker.tar.gz", gzip(&docker)),
        ("oci.tar", oci.clone()),
        ("oci.tar.zst", zstd(&oci)),
    ] {
        let test = TestStore::new();
        let file = test.file(name, &bytes);
        let report = test.store.import(&file, None, silent()).await.unwrap();
        assert_eq!(report.images[0].id, image.id(), "{name}");
        assert_eq!(
            report.images[0].repo_tags,
            ["docker.io/library/x:1"],
            "{name}"
        );
        assert!(test.names("ingest").is_empty(), "{name}");
    }
}

#[tokio::test]
async fn names_may_be_given_and_move() {
    let test = TestStore::new();
    let (one, two) = (two_layers(), TestImage::new(&[Layer::new().file("f", "2")]));
    let file = test.file("one.tar", &one.docker_archive(&[]));
    let report = test.store.import(&file, None, silent()).await.unwrap();
    assert!(
        report.images[0].repo_tags.is_empty() && report.warnings.len() == 1,
        "{report:?}"
    );
    test.store.import(&file, Some("x"), silent()).await.unwrap();
    assert_eq!(test.store.get("x").unwrap().unwrap().id, one.id());
    let file = test.file("two.tar", &two.docker_archive(&["y:2"]));
    test.store.import(&file, Some("x"), silent()).await.unwrap();
    assert_eq!(test.store.get("x:latest").unwrap().unwrap().id, two.id());
    assert!(
        test.store.get("y:2").unwrap().is_none(),
        "the given name stands instead of the archive's"
    );
    assert!(
        test.store
            .get(one.id().as_str())
            .unwrap()
            .unwrap()
            .repo_tags
            .is_empty()
    );
    test.store.tag("x", "z:3").unwrap();
    test.store.pin("z:3", true).unwrap();
    let image = test.store.get("z:3").unwrap().unwrap();
    assert_eq!((image.repo_tags.len(), image.pinned), (2, true));
}

#[tokio::test]
async fn what_is_damaged_or_foreign_leaves_nothing() {
    let test = TestStore::new();
    let layout = |name: &str, image: &TestImage| {
        let at = test.dir.path().join(name);
        TestImage::layout(&[(image, Some("x:1"), "amd64")], &at);
        at
    };
    let image = two_layers();
    let damaged = layout("damaged", &image);
    let layer = damaged
        .join("blobs/sha256")
        .join(Digest::of(&image.layers[0].1).hex());
    let mut bytes = fs::read(&layer).unwrap();
    bytes[30] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let missing = layout("missing", &image);
    fs::remove_file(missing.join("blobs/sha256").join(image.id().hex())).unwrap();
    let mut lying = image.clone();
    lying.config = String::from_utf8(image.config.clone())
        .unwrap()
        .replace(
            &Digest::of(&image.layers[0].0).to_string(),
            &Digest::of(b"other").to_string(),
        )
        .into_bytes();
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    lying.manifest = manifest
        .replace(&image.id().to_string(), &lying.id().to_string())
        .into_bytes();
    let lying = layout("lying", &lying);
    let foreign = TestImage::packed(&[(Layer::new().file("a", ""), Packing::Tar)], "arm64");
    let foreign_layout = test.dir.path().join("foreign");
    TestImage::layout(&[(&foreign, Some("x:1"), "arm64")], &foreign_layout);
    let text = test.file("text", b"hello");
    for (path, kind, says) in [
        (&damaged, ErrorKind::Corrupt, "damaged"),
        (&missing, ErrorKind::Invalid, "not in it"),
        (&lying, ErrorKind::Corrupt, "of the image's config"),
        (
            &foreign_layout,
            ErrorKind::NotFound,
            "manifest for linux/arm64 only",
        ),
        (&text, ErrorKind::Invalid, "tar"),
        (&test.dir.path().join("none"), ErrorKind::Internal, "none"),
        (
            &test.target("empty"),
            ErrorKind::Invalid,
            "neither an OCI layout",
        ),
    ] {
        let error = test.store.import(path, None, silent()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.report().contains(says), "{}", error.report());
    }
    test.store.gc().unwrap();
    for directory in ["ingest", "layers", "blobs/sha256", "leases"] {
        assert!(
            test.names(directory).is_empty(),
            "{directory}: {:?}",
            test.names(directory)
        );
    }
    assert!(test.store.list().unwrap().is_empty());
}

#[tokio::test]
async fn images_change_while_garbage_is_collected() {
    let test = TestStore::new();
    let file = test.dir.path().join("image.tar");
    fs::write(&file, two_layers().docker_archive(&["example.com/x:1"])).unwrap();
    test.store.import(&file, None, silent()).await.unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                test.store.gc().unwrap();
            }
        });
        for round in 0..200 {
            let name = format!("example.com/x:{round}");
            test.store.tag("example.com/x:1", &name).unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        collector.join().unwrap();
    });
    assert_eq!(
        test.store
            .get("example.com/x:1")
            .unwrap()
            .unwrap()
            .repo_tags
            .len(),
        200
    );
}

#[tokio::test]
async fn another_process_imports_and_this_one_sees_it() {
    let test = TestStore::new();
    let other = ImageStore::open(test.store.root(), StoreOptions::default()).unwrap();
    let file = test.file("i.tar", &two_layers().docker_archive(&["x:1"]));
    other.import(&file, None, silent()).await.unwrap();
    assert!(test.store.get("x:1").unwrap().is_some());
    test.store.prepare("c", "x:1").unwrap();
    other.remove("x:1").unwrap();
    assert_eq!(
        test.names("layers").len(),
        2,
        "the other process sees this one's snapshot"
    );
}

#[tokio::test]
async fn a_restart_finds_mounts_and_cleans_up() {
    let test = TestStore::new();
    let file = test.file("i.tar", &two_layers().docker_archive(&["x:1"]));
    test.store.import(&file, None, silent()).await.unwrap();
    test.store.prepare("c", "x:1").unwrap();
    let root = test.target("root");
    test.store.mount("c", &root).unwrap();
    fs::create_dir(test.store.root().join("ingest/half")).unwrap();
    fs::write(test.store.root().join("ingest/half/file"), "x").unwrap();
    let again = ImageStore::open(test.store.root(), StoreOptions::default()).unwrap();
    assert_eq!(
        again.snapshot("c").unwrap().unwrap().mountpoint.as_deref(),
        Some(root.as_path())
    );
    again.mount("c", &root).unwrap();
    assert!(
        again.mount("c", &test.target("elsewhere")).is_err(),
        "one upper directory, one mount"
    );
    assert!(test.names("ingest").is_empty());
    again.unmount("c").unwrap();
    again.unmount("c").unwrap();
    again.mount("c", &test.target("elsewhere")).unwrap();
    again.remove_snapshot("c").unwrap();
}

#[tokio::test]
async fn a_view_is_read_only() {
    let test = TestStore::new();
    let one = TestImage::new(&[Layer::new().dir(".", 0o711).file("f", "1")]);
    let file = test.file("i.tar", &one.docker_archive(&["x:1"]));
    test.store.import(&file, None, silent()).await.unwrap();
    let empty = test.file("e.tar", &TestImage::new(&[]).docker_archive(&["empty:1"]));
    test.store.import(&empty, None, silent()).await.unwrap();
    let root = test.target("root");
    for (key, image) in [("v", "x:1"), ("e", "empty:1")] {
        let view = test.store.view(key, image).unwrap();
        assert!(view.upper.is_none());
        test.store.mount(key, &root).unwrap();
        assert_eq!(root.join("f").exists(), key == "v");
        let error = fs::write(root.join("g"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert!(
            test.store
                .prepare(key, image)
                .is_err_and(|e| e.kind() == ErrorKind::Exists)
        );
        test.store.remove_snapshot(key).unwrap();
    }
    test.store.prepare("w", "x:1").unwrap();
    test.store.mount("w", &root).unwrap();
    assert_eq!(
        fs::metadata(&root).unwrap().mode() & 0o7777,
        0o711,
        "the root is the image's"
    );
    test.store.remove_snapshot("w").unwrap();
}

#[tokio::test]
async fn many_layers_mount() {
    let test = TestStore::new();
    let layers: Vec<Layer> = (0..120)
        .map(|n| Layer::new().file(&format!("f{n}"), &n.to_string()))
        .collect();
    let file = test.file("i.tar", &TestImage::new(&layers).docker_archive(&["x:1"]));
    test.store.import(&file, None, silent()).await.unwrap();
    let root = test.target("root");
    test.store.prepare("c", "x:1").unwrap();
    test.store.mount("c", &root).unwrap();
    assert!((0..120).all(|n| root.join(format!("f{n}")).exists()));
    test.store.remove_snapshot("c").unwrap();
    let snapshot = test.store.prepare("d", "x:1").unwrap();
    let upper = snapshot.upper.as_deref().zip(snapshot.work.as_deref());
    crate::mount::Overlay {
        lower: &snapshot.lowerdirs,
        upper,
        volatile: true,
    }
    .mount_with_page(&root)
    .unwrap();
    assert!(
        root.join("f119").exists(),
        "with one page of options too, as before Linux 6.5"
    );
    crate::mount::unmount_if_mounted(&root).unwrap();
}

#[tokio::test]
async fn a_power_cut_before_the_sync_costs_the_image_and_nothing_else() {
    let test = TestStore::new();
    let (one, two) = (two_layers(), TestImage::new(&[Layer::new().file("f", "2")]));
    for (image, name) in [(&one, "one:1"), (&two, "two:1")] {
        let file = test.file("i.tar", &image.docker_archive(&[name]));
        test.store.import(&file, None, silent()).await.unwrap();
    }
    let chain = test.store.get("one:1").unwrap().unwrap().layers.remove(1);
    let layer = test.store.inner.layers.path(&chain);
    let TestStore { dir, store } = test;
    drop(store);
    assert!(
        !layer.join("unsynced").exists(),
        "the sync has ended before the store did"
    );
    fs::write(layer.join("unsynced"), "another boot").unwrap();
    let store = ImageStore::open(dir.path().join("store"), StoreOptions::default()).unwrap();
    assert!(store.get("one:1").unwrap().is_none() && !layer.exists());
    assert!(store.get("two:1").unwrap().is_some());
}

#[test]
fn keys_are_names() {
    let test = TestStore::new();
    for key in ["", ".", "..", "a/b", ".hidden", &"x".repeat(201)] {
        assert_eq!(
            test.store.snapshot(key).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{key:?}"
        );
    }
}
