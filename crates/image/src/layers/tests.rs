//! Layers unpacked by themselves and mounted show what unpacking them one on top of the other gives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;

use crate::options::UnpackLimits;
use crate::testing::{Layer, TestImage, TestStore, silent};
use crate::unpack::{Target, unpack};

/// Path, and all there is to see of it; hard links by their count.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("file {}", fs::read_to_string(&path).unwrap())
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        found.insert(
            name,
            format!("{content} {:o} {}", meta.mode() & 0o7777, meta.uid()),
        );
    }
    found
}

fn layer(whiteouts: bool) -> impl Strategy<Value = Layer> {
    let part = || prop_oneof!["a", "b", "c", "d"];
    let path = || proptest::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    let entry = (
        0..if whiteouts { 9_u8 } else { 6 },
        path(),
        path(),
        0..3_u32,
    );
    proptest::collection::vec(entry, 1..10).prop_map(|entries| {
        entries
            .into_iter()
            .fold(Layer::new(), |layer, (kind, path, other, number)| {
                let (parent, name) = path.rsplit_once('/').unwrap_or((".", &path));
                match kind {
                    0 | 1 => layer.header(
                        EntryType::Directory,
                        &path,
                        "",
                        |h| (h.set_mode(0o700 + number), h.set_uid(number.into())).0,
                        b"",
                    ),
                    2 => layer.symlink(&path, &format!("/{other}")),
                    3 => layer.hard_link(&path, &other),
                    4 | 5 => layer.file(&path, &format!("{number}")),
                    // As every tool has it, the directory of a whiteout stands before it.
                    6 | 7 if parent == "." => layer.file(&format!(".wh.{name}"), ""),
                    6 | 7 => layer
                        .dir(parent, 0o755)
                        .file(&format!("{parent}/.wh.{name}"), ""),
                    _ => layer
                        .dir(&path, 0o755)
                        .file(&format!("{path}/.wh..wh..opq"), ""),
                }
            })
    })
}

/// None when the layers make no image.
fn one_on_the_other(test: &TestStore, layers: &[Layer]) -> Option<BTreeMap<String, String>> {
    let merged = test.target("merged");
    rustix::fs::chmod(&merged, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    for layer in layers {
        unpack(
            layer.tar().as_slice(),
            &merged,
            Target::Merged,
            UnpackLimits::default(),
            "test",
        )
        .ok()?;
    }
    Some(tree(&merged))
}

fn through_the_store(test: &TestStore, layers: &[Layer]) -> Option<BTreeMap<String, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let file = test.file("i.tar", &TestImage::new(layers).docker_archive(&["x:1"]));
    runtime
        .block_on(test.store.import(&file, None, silent()))
        .ok()?;
    let root = test.target("root");
    test.store.prepare("c", "x:1").unwrap();
    test.store.mount("c", &root).unwrap();
    let found = tree(&root);
    test.store.remove_snapshot("c").unwrap();
    Some(found)
}

fn check(layers: &[Layer]) -> Result<(), TestCaseError> {
    let test = TestStore::new();
    if let (Some(wanted), Some(found)) = (
        one_on_the_other(&test, layers),
        through_the_store(&test, layers),
    ) {
        prop_assert_eq!(found, wanted);
    }
    Ok(())
}

#[test]
fn layers_that_need_those_below() {
    let below = Layer::new()
        .file("etc/file", "1")
        .header(
            EntryType::Directory,
            "deep/er",
            "",
            |h| (h.set_mode(0o711), h.set_uid(5)).0,
            b"",
        )
        .symlink("lib", "usr/lib")
        .dir("usr/lib", 0o755)
        .file("gone", "");
    for above in [
        Layer::new().hard_link("linked", "etc/file"),
        Layer::new().file("lib/x", "through the link below"),
        Layer::new().file("deep/er/x", "2"),
        Layer::new().file(".wh..wh..opq", "").file("only", "3"),
        Layer::new().file("deep/.wh.er", ""),
        Layer::new()
            .file("lib/x", "through the link below")
            .dir("lib", 0o755),
    ] {
        let test = TestStore::new();
        let layers = [below.clone(), Layer::new().file("middle", ""), above];
        let wanted = one_on_the_other(&test, &layers).unwrap();
        assert_eq!(through_the_store(&test, &layers).unwrap(), wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_shows_the_same(one in layer(false), two in layer(true), three in layer(true)) {
        check(&[one, two, three])?;
    }
}
