//! A pull whose process is killed in the middle.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::ImageStore;

/// Set for the child: the store's directory and the image.
const ROOT: &str = "BERTH_TEST_PULL_ROOT";
const IMAGE: &str = "BERTH_TEST_PULL_IMAGE";

/// The child of the test below; by itself it does nothing.
#[tokio::test]
async fn child() {
    let (Ok(root), Ok(image)) = (std::env::var(ROOT), std::env::var(IMAGE)) else {
        return;
    };
    let store = ImageStore::open(root, options()).unwrap();
    let _ = store.pull(PullRequest::new(&image), silent()).await;
}

fn options() -> StoreOptions {
    StoreOptions {
        hosts_dirs: Vec::new(),
        ..StoreOptions::default()
    }
}

/// Ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_is_taken_up_where_it_was_and_leaves_nothing() {
    let image = large();
    let layer = image.layers[0].1.clone();
    let layer_path = format!("/blobs/{}", Digest::of(&layer));
    let (half, stalled) = (layer.len() / 2, Arc::new(AtomicUsize::new(0)));
    let (served, count, path) = (image.clone(), stalled.clone(), layer_path.clone());
    let fake = Fake::start(move |request| {
        let mut answer = serve(&served, request);
        let first = request.target.contains(&path) && count.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            answer.cut = Some(half);
            answer.stall = true;
        }
        answer
    })
    .await;
    let reference = format!("{}/x:1", fake.address);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pull::tests::killed::child"])
            .env(ROOT, &root)
            .env(IMAGE, &reference)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let part = root.join(format!("ingest/{}.part", Digest::of(&layer).hex()));
    let end = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&part).map_or(0, |found| found.len()) < 1000 {
        assert!(Instant::now() < end, "the download does not begin");
        assert!(child.0.try_wait().unwrap().is_none(), "the pull is over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let had = fs::metadata(&part).unwrap().len();
    // What a process leaves that is killed elsewhere: half-written files, and a tree that was being unpacked.
    fs::write(root.join("images.1.tmp"), "{").unwrap();
    fs::write(root.join("blobs/sha256/00.1.tmp"), "half").unwrap();
    fs::create_dir(root.join("ingest/0123")).unwrap();

    let store = ImageStore::open(&root, options()).unwrap();
    assert!(store.get(&reference).unwrap().is_none());
    let pulled = store
        .pull(PullRequest::new(&reference), silent())
        .await
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let asked = fake.seen(&layer_path);
    let range = asked.last().unwrap().headers.get("range").cloned();
    assert_eq!((asked.len(), range), (2, Some(format!("bytes={had}-"))));

    store.gc().unwrap();
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert!(names("ingest").is_empty(), "{:?}", names("ingest"));
    while !names("trash").is_empty() {
        assert!(
            Instant::now() < end,
            "the trash stays: {:?}",
            names("trash")
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(store);
    let temporary = |name: &String| name.ends_with(".tmp");
    assert!(
        !names("")
            .iter()
            .chain(&names("blobs/sha256"))
            .any(temporary)
    );
    assert_eq!(names("blobs/sha256").len(), 2, "manifest and config stay");
}
