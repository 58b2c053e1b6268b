//! What a container waits for: its root file system, from an image that is unpacked already, and its end.
//! Needs root.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may end on an error, and its macros make public items"
)]

use std::fs;
use std::sync::Arc;

use berth_image::{Digest, ImageStore, StoreOptions};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// `docker save` of an image with so many layers of one file.
fn archive(layers: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let put = |builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, data).unwrap();
    };
    let (mut names, mut diffs) = (Vec::new(), Vec::new());
    for number in 0..layers {
        let mut layer = tar::Builder::new(Vec::new());
        put(&mut layer, &format!("file-{number}"), b"data");
        let layer = layer.into_inner().unwrap();
        diffs.push(Digest::of(&layer).to_string());
        names.push(format!("{number}/layer.tar"));
        put(&mut builder, &names[number], &layer);
    }
    let config =
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    put(&mut builder, "config.json", config.to_string().as_bytes());
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [format!("x:{layers}")], "Layers": names}]);
    put(
        &mut builder,
        "manifest.json",
        manifest.to_string().as_bytes(),
    );
    builder.into_inner().unwrap()
}

fn snapshots(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("store"), StoreOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let target = dir.path().join("root");
    fs::create_dir(&target).unwrap();
    for layers in [1, 10, 50] {
        let file = dir.path().join("image.tar");
        fs::write(&file, archive(layers)).unwrap();
        runtime
            .block_on(store.import(&file, None, Arc::new(|_| {})))
            .unwrap();
        let image = format!("x:{layers}");
        let mut number = 0;
        let remove = |number: usize| store.remove_snapshot(&format!("c{number}")).unwrap();
        c.bench_function(&format!("prepare and mount, {layers} layers"), |b| {
            b.iter_batched(
                || {
                    remove(number);
                    number += 1;
                    format!("c{number}")
                },
                |key| {
                    store.prepare(&key, &image).unwrap();
                    store.mount(&key, &target).unwrap();
                },
                BatchSize::PerIteration,
            );
        });
        remove(number);
        c.bench_function(&format!("unmount and remove, {layers} layers"), |b| {
            b.iter_batched(
                || {
                    store.prepare("r", &image).unwrap();
                    store.mount("r", &target).unwrap();
                },
                |()| store.remove_snapshot("r").unwrap(),
                BatchSize::PerIteration,
            );
        });
        c.bench_function(&format!("look up by name, {layers} layers"), |b| {
            b.iter(|| store.get(&image).unwrap())
        });
    }
}

criterion_group!(benches, snapshots);
criterion_main!(benches);
