//! What every store must do, whatever it is made of.

#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use berth_store::{Event, Expect, Outcome, Range, Revision, Store, StoreError, WatchStream, Write};
use futures::StreamExt;

const PATIENCE: Duration = Duration::from_secs(20);

fn write(key: &str, expect: Expect, value: Option<&str>) -> Write {
    Write {
        key: key.to_owned(),
        expect,
        value: value.map(|v| v.to_owned().into()),
    }
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    committed(
        store
            .transact(vec![write(key, Expect::Any, Some(value))])
            .await
            .unwrap(),
    )
}

async fn delete(store: &Arc<dyn Store>, key: &str) -> Revision {
    committed(
        store
            .transact(vec![write(key, Expect::Any, None)])
            .await
            .unwrap(),
    )
}

fn committed(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Failed { key, .. } => panic!("the expectation of {key} failed"),
    }
}

async fn keys(store: &Arc<dyn Store>, range: Range) -> Vec<String> {
    let page = store.range(range).await.unwrap();
    page.items.into_iter().map(|kv| kv.key).collect()
}

fn prefix(prefix: &str) -> Range {
    Range {
        prefix: prefix.to_owned(),
        ..Range::default()
    }
}

async fn take(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("events arrive")
            .expect("the watch goes on")
            .unwrap();
        events.extend(batch.events);
    }
    events
}

pub(crate) async fn writes_are_read_back(store: Arc<dyn Store>) {
    assert_eq!(store.get("/registry/a/x").await.unwrap(), None);
    let first = put(&store, "/registry/a/x", "1").await;
    let second = put(&store, "/registry/a/x", "2").await;
    assert!(second > first);
    let found = store.get("/registry/a/x").await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.revision), (&b"2"[..], second));
    assert!(store.revision().await.unwrap() >= second);
    delete(&store, "/registry/a/x").await;
    assert_eq!(store.get("/registry/a/x").await.unwrap(), None);
    assert_eq!(
        keys(&store, prefix("/registry/a/")).await,
        Vec::<String>::new()
    );
}

pub(crate) async fn expectations_are_kept(store: Arc<dyn Store>) {
    let absent = |value| vec![write("/registry/a/x", Expect::Absent, value)];
    let revision = committed(store.transact(absent(Some("1"))).await.unwrap());
    let outcome = store.transact(absent(Some("2"))).await.unwrap();
    let Outcome::Failed { key, current } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(key, "/registry/a/x");
    let current = current.unwrap();
    assert_eq!(
        (current.value.as_ref(), current.revision),
        (&b"1"[..], revision)
    );
    let stale = vec![write(
        "/registry/a/x",
        Expect::Revision(revision + 1000),
        Some("3"),
    )];
    assert!(matches!(
        store.transact(stale).await.unwrap(),
        Outcome::Failed { .. }
    ));
    let right = vec![write(
        "/registry/a/x",
        Expect::Revision(revision),
        Some("4"),
    )];
    committed(store.transact(right).await.unwrap());
    delete(&store, "/registry/a/x").await;
    let gone = vec![write(
        "/registry/a/x",
        Expect::Revision(revision),
        Some("5"),
    )];
    let outcome = store.transact(gone).await.unwrap();
    assert!(
        matches!(outcome, Outcome::Failed { current: None, .. }),
        "{outcome:?}"
    );
    committed(store.transact(absent(Some("6"))).await.unwrap());
}

pub(crate) async fn a_transaction_is_all_or_nothing(store: Arc<dyn Store>) {
    let revision = put(&store, "/registry/a/x", "1").await;
    let mixed = vec![
        write("/registry/a/y", Expect::Absent, Some("1")),
        write(
            "/registry/a/x",
            Expect::Revision(revision + 1000),
            Some("2"),
        ),
    ];
    assert!(matches!(
        store.transact(mixed).await.unwrap(),
        Outcome::Failed { .. }
    ));
    assert_eq!(store.get("/registry/a/y").await.unwrap(), None);
    let both = vec![
        write("/registry/a/y", Expect::Absent, Some("1")),
        write("/registry/a/x", Expect::Revision(revision), None),
    ];
    let revision = committed(store.transact(both).await.unwrap());
    assert_eq!(
        store.get("/registry/a/y").await.unwrap().unwrap().revision,
        revision
    );
    assert_eq!(store.get("/registry/a/x").await.unwrap(), None);
}

pub(crate) async fn ranges_go_page_by_page(store: Arc<dyn Store>) {
    for key in [
        "/registry/a/1",
        "/registry/a/2",
        "/registry/a/3",
        "/registry/a-b/1",
        "/registry/b/1",
    ] {
        put(&store, key, "v").await;
    }
    assert_eq!(
        keys(&store, prefix("/registry/a/")).await,
        ["/registry/a/1", "/registry/a/2", "/registry/a/3"]
    );
    let first = store
        .range(Range {
            limit: 2,
            ..prefix("/registry/a/")
        })
        .await
        .unwrap();
    assert!(first.more);
    assert_eq!(first.items.len(), 2);
    put(&store, "/registry/a/4", "v").await;
    let rest = store
        .range(Range {
            after: Some("/registry/a/2".to_owned()),
            revision: first.revision,
            limit: 2,
            ..prefix("/registry/a/")
        })
        .await
        .unwrap();
    assert!(!rest.more);
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].key, "/registry/a/3");
}

pub(crate) async fn the_past_is_readable_until_it_is_compacted(store: Arc<dyn Store>) {
    put(&store, "/registry/a/x", "1").await;
    let then = put(&store, "/registry/a/y", "1").await;
    delete(&store, "/registry/a/x").await;
    let now = put(&store, "/registry/a/y", "2").await;
    let at = |revision| Range {
        revision,
        ..prefix("/registry/a/")
    };
    let page = store.range(at(then)).await.unwrap();
    assert_eq!(page.revision, then);
    assert_eq!(page.items.len(), 2);
    assert_eq!(page.items[1].value.as_ref(), b"1");
    store.compact(now).await.unwrap();
    let error = store.range(at(then)).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    let page = store.range(at(now)).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].value.as_ref(), b"2");
    assert_eq!(
        keys(&store, prefix("/registry/a/")).await,
        ["/registry/a/y"]
    );
}

pub(crate) async fn a_watch_tells_everything_in_order(store: Arc<dyn Store>) {
    let first = put(&store, "/registry/a/x", "1").await;
    put(&store, "/registry/b/x", "not mine").await;
    let second = put(&store, "/registry/a/x", "2").await;
    let mut stream = store.watch("/registry/a/".to_owned(), first).await.unwrap();
    let third = delete(&store, "/registry/a/x").await;
    put(&store, "/registry/b/y", "not mine").await;
    let both = store
        .transact(vec![
            write("/registry/a/y", Expect::Any, Some("3")),
            write("/registry/a/z", Expect::Any, Some("4")),
        ])
        .await
        .unwrap();
    let fourth = committed(both);
    let events = take(&mut stream, 5).await;
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_deref(), e.revision))
        .collect();
    assert_eq!(
        told,
        [
            ("/registry/a/x", Some(&b"1"[..]), first),
            ("/registry/a/x", Some(&b"2"[..]), second),
            ("/registry/a/x", None, third),
            ("/registry/a/y", Some(&b"3"[..]), fourth),
            ("/registry/a/z", Some(&b"4"[..]), fourth),
        ]
    );
    let mut later = store
        .watch("/registry/a/".to_owned(), second + 1)
        .await
        .unwrap();
    assert_eq!(take(&mut later, 1).await[0].revision, third);
}

pub(crate) async fn a_watch_of_a_compacted_past_is_refused(store: Arc<dyn Store>) {
    let first = put(&store, "/registry/a/x", "1").await;
    put(&store, "/registry/a/x", "2").await;
    let now = put(&store, "/registry/a/x", "3").await;
    store.compact(now).await.unwrap();
    let refused = match store.watch("/registry/a/".to_owned(), first).await {
        Err(error) => error,
        Ok(mut stream) => tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("an answer")
            .expect("an error first")
            .unwrap_err(),
    };
    assert!(matches!(refused, StoreError::Compacted { .. }), "{refused}");
    let mut stream = store
        .watch("/registry/a/".to_owned(), now + 1)
        .await
        .unwrap();
    let next = put(&store, "/registry/a/x", "4").await;
    assert_eq!(take(&mut stream, 1).await[0].revision, next);
}

pub(crate) async fn many_writers_lose_nothing(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let mut stream = store
        .watch("/registry/n/".to_owned(), start + 1)
        .await
        .unwrap();
    committed(
        store
            .transact(vec![write(
                "/registry/n/counter",
                Expect::Absent,
                Some("0"),
            )])
            .await
            .unwrap(),
    );
    let mut writers = Vec::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let current = store.get("/registry/n/counter").await.unwrap().unwrap();
                    let count: u32 = std::str::from_utf8(&current.value)
                        .unwrap()
                        .parse()
                        .unwrap();
                    let next = (count + 1).to_string();
                    let change = vec![write(
                        "/registry/n/counter",
                        Expect::Revision(current.revision),
                        Some(&next),
                    )];
                    if let Outcome::Committed(_) = store.transact(change).await.unwrap() {
                        break;
                    }
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let last = store.get("/registry/n/counter").await.unwrap().unwrap();
    assert_eq!(last.value.as_ref(), b"160");
    let events = take(&mut stream, 161).await;
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.value.as_deref(), Some(n.to_string().as_bytes()));
    }
}

pub(crate) async fn the_future_is_refused(store: Arc<dyn Store>) {
    let now = put(&store, "/registry/a/x", "1").await;
    let error = store
        .range(Range {
            revision: now + 100,
            ..prefix("/registry/a/")
        })
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Future { .. }), "{error}");
}

pub(crate) async fn a_watch_of_everything_says_how_far_it_is(store: Arc<dyn Store>) {
    let start = store.revision().await.unwrap();
    let mut stream = store
        .watch("/registry/".to_owned(), start + 1)
        .await
        .unwrap();
    let nothing = delete(&store, "/registry/a/absent").await;
    let put_at = put(&store, "/registry/a/x", "1").await;
    let newest = store.revision().await.unwrap();
    assert_eq!(newest, put_at, "nothing else has been written");
    let mut events = Vec::new();
    let mut upto = start;
    while upto < newest {
        let batch = tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("it comes as far as the store is")
            .expect("the watch goes on")
            .unwrap();
        assert!(batch.revision > upto, "{batch:?}");
        upto = batch.revision;
        events.extend(batch.events);
    }
    assert!(nothing > start && upto == newest);
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.key.as_str(), e.revision))
        .collect();
    assert!(told.contains(&("/registry/a/x", put_at)), "{told:?}");
    assert!(told.iter().all(|(key, _)| key.starts_with("/registry/a/")));
}
