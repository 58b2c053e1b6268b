//! Backups beside a working store, restores into an empty one, and the move from SQLite to etcd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_store::backup;
use berth_store::etcd::{Etcd, EtcdConfig};
use berth_store::sqlite::{Snapshot, Sqlite};
use berth_store::{BackupError, Expect, KeyValue, Outcome, Range, Store, StoreError, Write};
use berth_testkit::EtcdServer;

fn write(key: &str, expect: Expect, value: Option<String>) -> Vec<Write> {
    vec![Write {
        key: format!("/registry/core/configmaps/{key}"),
        expect,
        value: value.map(Into::into),
    }]
}

async fn put(store: &dyn Store, key: &str, value: &str) -> i64 {
    match store
        .transact(write(key, Expect::Any, Some(value.to_owned())))
        .await
        .unwrap()
    {
        Outcome::Committed(revision) => revision,
        failed @ Outcome::Failed { .. } => panic!("{failed:?}"),
    }
}

async fn all(store: &dyn Store) -> Vec<KeyValue> {
    let prefix = "/registry/".to_owned();
    let page = store
        .range(Range {
            prefix,
            ..Range::default()
        })
        .await
        .unwrap();
    page.items
}

fn contents(items: &[KeyValue]) -> Vec<(String, Vec<u8>)> {
    let pairs = items.iter();
    pairs
        .map(|kv| (kv.key.clone(), kv.value.to_vec()))
        .collect()
}

/// More than a page and a transaction of etcd take.
async fn fill(store: &dyn Store) {
    for n in 0..450 {
        put(store, &format!("n/c{n:04}"), &format!("value {n}")).await;
    }
    put(store, "n/c0001", "changed").await;
    for n in 0..3 {
        put(store, &format!("n/large{n}"), &"x".repeat(700_000)).await;
    }
    store
        .transact(write("n/c0002", Expect::Any, None))
        .await
        .unwrap();
}

fn is_private(file: &Path) -> bool {
    file.metadata().unwrap().permissions().mode() & 0o777 == 0o600
}

fn config(server: &EtcdServer, prefix: &str) -> EtcdConfig {
    EtcdConfig::new(std::slice::from_ref(&server.url), prefix)
}

#[tokio::test]
async fn a_database_in_use_is_saved_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = Sqlite::open(&at("one")).await.unwrap();
    fill(&store).await;
    let before = all(&store).await;
    let revision = store.revision().await.unwrap();
    let copied = backup::of_sqlite(&at("one/berth.db"), &at("backup")).unwrap();
    assert_eq!((copied.keys, copied.revision), (before.len(), revision));
    assert!(is_private(&at("backup")) && is_private(&at("one/berth.db")));
    // It is of one moment, and complete whatever comes later.
    put(&store, "n/later", "1").await;
    let again = backup::of_sqlite(&at("one/berth.db"), &at("backup")).unwrap_err();
    assert!(matches!(again, BackupError::Exists { .. }), "{again}");
    Snapshot::open(&at("backup")).unwrap().check().unwrap();

    backup::to_sqlite(&at("backup"), &at("two"), 1000).unwrap();
    assert!(is_private(&at("two/berth.db")));
    let restored = Sqlite::open(&at("two")).await.unwrap();
    assert_eq!(all(&restored).await, before);
    assert_eq!(restored.revision().await.unwrap(), revision + 1000);
    assert_eq!(put(&restored, "n/new", "1").await, revision + 1001);
    // Whoever watched the lost store begins anew.
    let watch = restored.watch("/registry/".to_owned(), revision + 1).await;
    assert!(matches!(watch, Err(StoreError::Compacted { .. })));
    drop(restored);
    let refused = backup::to_sqlite(&at("backup"), &at("two"), 0).unwrap_err();
    assert!(
        refused.to_string().contains("nothing was written"),
        "{refused}"
    );
    // A store that is in use is not restored into either.
    let refused = backup::to_sqlite(&at("backup"), &at("one"), 0).unwrap_err();
    assert!(
        refused.to_string().contains("in use by process"),
        "{refused}"
    );
    let left: Vec<_> = std::fs::read_dir(dir.path().join("two")).unwrap().collect();
    let partial = left.iter().any(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("partial")
    });
    assert!(!partial, "{left:?}");
}

#[tokio::test]
async fn what_is_no_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let store = Sqlite::open(&at("one")).await.unwrap();
    fill(&store).await;
    backup::of_sqlite(&at("one/berth.db"), &at("good")).unwrap();
    let mut bytes = std::fs::read(at("good")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(at("damaged"), bytes).unwrap();
    std::fs::write(at("text"), "hello, this is not a database at all").unwrap();
    rusqlite::Connection::open(at("foreign"))
        .unwrap()
        .execute_batch("CREATE TABLE x (y)")
        .unwrap();
    std::fs::copy(at("good"), at("newer")).unwrap();
    rusqlite::Connection::open(at("newer"))
        .unwrap()
        .pragma_update(None, "user_version", 2)
        .unwrap();
    for (name, part) in [
        ("absent", "does not exist"),
        ("text", "not a SQLite database"),
        ("foreign", "another program"),
        ("newer", "newer version"),
        ("damaged", "damaged"),
    ] {
        let error = backup::to_sqlite(&at(name), &at("target"), 0).unwrap_err();
        assert!(error.to_string().contains(part), "{name}: {error}");
        assert!(!at("target/berth.db").exists(), "{name}");
    }
}

#[tokio::test]
async fn a_database_moves_to_etcd_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let server = EtcdServer::start();
    let store = Sqlite::open(&at("one")).await.unwrap();
    fill(&store).await;
    let before = all(&store).await;
    let revision = store.revision().await.unwrap();
    let target = config(&server, "/registry");
    // Not while a server uses it: what it wrote meanwhile would be lost.
    let refused = backup::migrate(&at("one"), &target).await.unwrap_err();
    assert!(
        refused.to_string().contains("in use by process"),
        "{refused}"
    );
    drop(store);
    let copied = backup::migrate(&at("one"), &target).await.unwrap();
    assert_eq!(copied.keys, before.len());
    let refused = backup::migrate(&at("one"), &target).await.unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");

    let moved = Etcd::open(&target).await.unwrap();
    let after = all(&moved).await;
    assert_eq!(contents(&after), contents(&before));
    assert!(
        after.iter().all(|kv| kv.revision > revision),
        "versions only grow"
    );
    let now = moved.revision().await.unwrap();
    assert!(after.iter().all(|kv| kv.revision <= now) && copied.revision == now);
    // A version from before is nobody's, and an old watch begins anew.
    let stale = write("n/c0001", Expect::Revision(revision), Some("x".to_owned()));
    assert!(matches!(
        moved.transact(stale).await.unwrap(),
        Outcome::Failed { .. }
    ));
    let watch = moved.watch("/registry/".to_owned(), revision / 2).await;
    assert!(matches!(watch, Err(StoreError::Compacted { .. })));
    assert!(put(&moved, "n/c0001", "again").await > now);

    let saved = backup::of_etcd(&moved, &at("backup")).await.unwrap();
    assert!(is_private(&at("backup")));
    let copied = backup::to_etcd(&at("backup"), &config(&server, "/second"), 5000)
        .await
        .unwrap();
    assert_eq!(copied.keys, saved.keys);
    let second = Etcd::open(&config(&server, "/second")).await.unwrap();
    assert_eq!(contents(&all(&second).await), contents(&all(&moved).await));
    assert!(second.revision().await.unwrap() > saved.revision + 5000);
    backup::to_sqlite(&at("backup"), &at("two"), 0).unwrap();
    let back = Sqlite::open(&at("two")).await.unwrap();
    assert_eq!(contents(&all(&back).await), contents(&all(&moved).await));
}

#[tokio::test]
async fn a_prefix_that_was_filled_half_way_is_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let server = EtcdServer::start();
    let target = config(&server, "/registry");
    let mut fill_it = berth_store::etcd::Fill::begin(&target, 7).await.unwrap();
    for n in 0..150 {
        let kv = KeyValue {
            key: format!("/registry/core/configmaps/n/c{n}"),
            value: "1".into(),
            revision: 1,
        };
        fill_it.add(kv).await.unwrap();
    }
    drop(fill_it);
    let error = Etcd::open(&target).await.unwrap_err().to_string();
    assert!(
        error.contains("holds data that berth has not written"),
        "{error}"
    );
    let store = Sqlite::open(dir.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    let error = backup::migrate(dir.path(), &target)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not empty"), "{error}");
}
