//! The suite over SQLite, and what only an embedded database can suffer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "backend/suite.rs"]
mod suite;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use berth_store::sqlite::Sqlite;
use berth_store::{Expect, OpenError, Outcome, Range, Store, StoreError, Write};

async fn open(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(dir).await.unwrap())
}

fn put(key: &str, value: &str) -> Vec<Write> {
    vec![Write {
        key: key.to_owned(),
        expect: Expect::Any,
        value: Some(value.to_owned().into()),
    }]
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            suite::$name(open(dir.path()).await).await;
        }
    )*};
}

suite!(
    writes_are_read_back,
    expectations_are_kept,
    a_transaction_is_all_or_nothing,
    ranges_go_page_by_page,
    the_past_is_readable_until_it_is_compacted,
    a_watch_tells_everything_in_order,
    a_watch_of_a_compacted_past_is_refused,
    a_watch_of_everything_says_how_far_it_is,
    many_writers_lose_nothing,
    the_future_is_refused,
);

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 0..5 {
        store
            .transact(put(&format!("/registry/a/{n}"), "v"))
            .await
            .unwrap();
    }
    let revision = store.revision().await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.revision().await.unwrap(), revision);
    let page = store
        .range(Range {
            prefix: "/registry/a/".to_owned(),
            ..Range::default()
        })
        .await
        .unwrap();
    assert_eq!(page.items.len(), 5);
}

#[tokio::test]
async fn two_processes_cannot_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).await;
    let error = Sqlite::open(dir.path()).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { pid, .. } if *pid == std::process::id().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_not_touched() {
    let cases = [
        ("text", &b"this is a text file and long enough"[..]),
        ("short", &b"x"[..]),
    ];
    for (name, content) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("berth.db");
        std::fs::write(&file, content).unwrap();
        let error = Sqlite::open(dir.path()).await.unwrap_err();
        assert!(
            matches!(error, OpenError::NotADatabase { .. }),
            "{name}: {error}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), content, "{name}");
    }
}

#[tokio::test]
async fn a_foreign_or_newer_database_is_not_touched() {
    let foreign = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(foreign.path().join("berth.db")).unwrap();
    other
        .execute_batch("CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('x');")
        .unwrap();
    drop(other);
    let before = std::fs::read(foreign.path().join("berth.db")).unwrap();
    let error = Sqlite::open(foreign.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(
        std::fs::read(foreign.path().join("berth.db")).unwrap(),
        before
    );

    let newer = tempfile::tempdir().unwrap();
    drop(open(newer.path()).await);
    let ours = rusqlite::Connection::open(newer.path().join("berth.db")).unwrap();
    ours.pragma_update(None, "user_version", 99).unwrap();
    drop(ours);
    let error = Sqlite::open(newer.path()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_database_is_told_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for n in 0..200 {
        store
            .transact(put(&format!("/registry/a/{n}"), &"v".repeat(500)))
            .await
            .unwrap();
    }
    drop(store);
    let file = dir.path().join("berth.db");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in bytes.iter_mut().skip(4096).step_by(7).take(4000) {
        *byte ^= 0xff;
    }
    std::fs::write(&file, &bytes).unwrap();
    let error = Sqlite::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).await.unwrap();
    store.transact(put("/registry/a/kept", "v")).await.unwrap();
    store.limit_pages(Some(12)).await.unwrap();
    let mut refused = None;
    for n in 0..100 {
        match store
            .transact(put(&format!("/registry/a/{n}"), &"v".repeat(4000)))
            .await
        {
            Ok(_) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(
        matches!(refused, Some(StoreError::DiskFull { .. })),
        "{refused:?}"
    );
    assert!(store.get("/registry/a/kept").await.unwrap().is_some());
    let before = store.revision().await.unwrap();
    store.limit_pages(None).await.unwrap();
    let outcome = store.transact(put("/registry/a/again", "v")).await.unwrap();
    assert_eq!(outcome, Outcome::Committed(before + 1));
}

/// Not a test of its own: the process that [`what_was_answered_survives_kill_9`] kills.
#[test]
#[ignore = "run by what_was_answered_survives_kill_9"]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var("BERTH_STORE_TEST_DIR") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Sqlite::open(Path::new(&dir)).await.unwrap());
        let mut writers = Vec::new();
        for writer in 0..4 {
            let store = Arc::clone(&store);
            writers.push(tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("/registry/w{writer}/{n}");
                    let outcome = store.transact(put(&key, &key)).await.unwrap();
                    let Outcome::Committed(revision) = outcome else {
                        panic!("{outcome:?}");
                    };
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "answered {key} {revision}").unwrap();
                    out.flush().unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut last_revision = 0;
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "child_that_writes_until_it_is_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env("BERTH_STORE_TEST_DIR", dir.path().join(round.to_string()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let mut answered = Vec::new();
        let mut lines = BufReader::new(out).lines();
        let mut killed = false;
        while let Some(Ok(line)) = lines.next() {
            let mut words = line.split_whitespace();
            if let (Some("answered"), Some(key), Some(revision)) =
                (words.next(), words.next(), words.next())
            {
                answered.push((key.to_owned(), revision.parse::<i64>().unwrap()));
            }
            if !killed && answered.len() >= 150 + 40 * round {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(
            killed,
            "the child ended by itself after {} writes",
            answered.len()
        );
        let store = open(&dir.path().join(round.to_string())).await;
        for (key, revision) in &answered {
            let found = store.get(key).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{key} was answered and is lost"));
            assert_eq!(found.revision, *revision);
            assert_eq!(found.value, key.as_bytes());
            last_revision = last_revision.max(*revision);
        }
        assert!(store.revision().await.unwrap() >= last_revision.min(answered.len() as i64));
    }
}
