//! An etcd that is away, full, slow, put back to an earlier state, or empty.

use std::sync::Arc;
use std::time::Duration;

use berth_store::etcd::{Etcd, EtcdConfig};
use berth_store::{Expect, Outcome, Revision, Store, StoreError, Write};
use berth_testkit::{EtcdServer, free_port, wait_for_async};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions};
use futures::StreamExt;

use super::config;

const KEY: &str = "/registry/core/configmaps/n/a";

fn write(key: &str, expect: Expect, value: &str) -> Vec<Write> {
    vec![Write {
        key: key.to_owned(),
        expect,
        value: Some(value.to_owned().into()),
    }]
}

async fn put(store: &Etcd, key: &str, value: &str) -> Revision {
    match store
        .transact(write(key, Expect::Any, value))
        .await
        .unwrap()
    {
        Outcome::Committed(revision) => revision,
        other @ Outcome::Failed { .. } => panic!("{other:?}"),
    }
}

async fn answers(store: &Etcd) {
    wait_for_async("an answer of etcd", Duration::from_secs(20), || async {
        store.revision().await
    })
    .await;
}

#[tokio::test]
async fn a_member_that_is_away_is_left_for_another() {
    let mut server = EtcdServer::start();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let urls = [nobody.clone(), server.url.clone(), nobody];
    let store = Etcd::open(&EtcdConfig::new(&urls, "/registry"))
        .await
        .unwrap();
    let revision = put(&store, KEY, "1").await;
    let mut stream = store
        .watch("/registry/".to_owned(), revision)
        .await
        .unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().events.len(), 1);

    server.kill();
    // What was not carried out is told from what may have been.
    let error = store
        .transact(write(KEY, Expect::Any, "2"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::Interrupted { .. }
        ),
        "{error}"
    );
    // A connection that was lost is noticed after a while.
    let error = wait_for_async("it to be certain", Duration::from_secs(20), || async {
        match store.transact(write(KEY, Expect::Any, "3")).await {
            Err(error @ StoreError::Unavailable { .. }) => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.to_string().contains("nothing was written"), "{error}");
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
    assert!(
        !matches!(ended.unwrap(), Some(Ok(_))),
        "the watch has ended"
    );

    server.start_again();
    answers(&store).await;
    let next = put(&store, KEY, "4").await;
    assert!(next > revision);
    // Where it was, nothing left out.
    let again = async || {
        let mut stream = store.watch("/registry/".to_owned(), revision + 1).await?;
        match stream.next().await {
            Some(batch) => batch,
            None => Err(StoreError::Closed),
        }
    };
    let batch = wait_for_async("the watch", Duration::from_secs(20), again).await;
    assert!(batch.events.iter().all(|e| e.revision > revision));
    assert_eq!(
        batch.events.last().unwrap().value.as_deref(),
        Some(&b"4"[..])
    );
}

/// As `etcdctl alarm disarm`.
async fn disarm(client: &mut Client) {
    let full = AlarmType::Nospace;
    let raised = client.alarm(AlarmAction::Get, full, None).await.unwrap();
    for alarm in raised.alarms() {
        let mut member = AlarmOptions::new();
        member.with_member(alarm.member_id());
        let action = AlarmAction::Deactivate;
        client.alarm(action, full, Some(member)).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_etcd_says_so_and_loses_nothing() {
    // Its database's file doubles as it grows: what is left after the clean-up has to be far from this.
    let server = EtcdServer::start_with(&["--quota-backend-bytes=8388608"]);
    let store = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let large = "x".repeat(200_000);
    let mut written = Vec::new();
    let error = loop {
        let key = format!("/registry/core/configmaps/n/{}", written.len());
        match store.transact(write(&key, Expect::Absent, &large)).await {
            Ok(_) => written.push(key),
            Err(error) => break error,
        }
        assert!(written.len() < 100, "it has a quota");
    };
    assert!(matches!(error, StoreError::EtcdFull), "{error}");
    assert!(
        error.to_string().contains("etcdctl alarm disarm"),
        "{error}"
    );
    for key in &written {
        assert!(store.get(key).await.unwrap().is_some(), "{key}");
    }
    // Reads go on, and so do questions for what is newest.
    let full = store.revision().await.unwrap();

    // What the error says to do helps, and nothing that was answered is lost.
    let mut client = Client::connect([&server.url], None).await.unwrap();
    for key in &written[1..] {
        client.delete(key.as_str(), None).await.unwrap();
    }
    let head = client.get("/", None).await.unwrap();
    let head = head.header().unwrap().revision();
    let at_once = CompactionOptions::new().with_physical();
    client.compact(head, Some(at_once)).await.unwrap();
    client.defragment().await.unwrap();
    // A write that was on its way may have raised the alarm once more.
    let after = wait_for_async("etcd to take writes", Duration::from_secs(20), || async {
        let mut client = client.clone();
        disarm(&mut client).await;
        match store.transact(write(KEY, Expect::Any, "after")).await {
            Ok(Outcome::Committed(revision)) => Ok(revision),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(after > full);
    let first = store.get(&written[0]).await.unwrap().unwrap();
    assert_eq!(first.value.len(), large.len());
}

#[tokio::test]
async fn an_etcd_that_stands_still_is_told_from_one_that_refuses() {
    let server = EtcdServer::start();
    let store = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let before = put(&store, KEY, "before").await;
    server.stop(true);
    let begun = std::time::Instant::now();
    let write = write(KEY, Expect::Revision(before), "meanwhile");
    let (wrote, read) = tokio::join!(store.transact(write), store.get(KEY));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let wrote = wrote.unwrap_err();
    assert!(matches!(wrote, StoreError::Interrupted { .. }), "{wrote}");
    assert!(read.is_err(), "{read:?}");
    server.stop(false);
    answers(&store).await;
    // Whatever became of it is what everybody sees.
    let now = store.get(KEY).await.unwrap().unwrap();
    match now.value.as_ref() {
        b"before" => assert_eq!(now.revision, before),
        b"meanwhile" => assert!(now.revision > before),
        other => panic!("{}", String::from_utf8_lossy(other)),
    }
    assert!(put(&store, KEY, "after").await > now.revision);
}

#[tokio::test]
async fn without_a_leader_nothing_is_written_and_nothing_is_lost() {
    let mut members = EtcdServer::start_members(3);
    let urls: Vec<String> = members.iter().map(|member| member.url.clone()).collect();
    let store = Etcd::open(&EtcdConfig::new(&urls, "/registry"))
        .await
        .unwrap();
    let before = put(&store, KEY, "before").await;
    members[1].kill();
    members[2].kill();
    // The member that is left notices after a while; until then a write may or may not be made.
    wait_for_async("it to be certain", Duration::from_secs(60), || async {
        match store.transact(write(KEY, Expect::Absent, "none")).await {
            Err(StoreError::Unavailable { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(store.revision().await.is_err());
    for member in &mut members[1..] {
        member.start_again();
    }
    wait_for_async("a leader", Duration::from_secs(60), || async {
        store.revision().await
    })
    .await;
    let found = store.get(KEY).await.unwrap().unwrap();
    assert_eq!(
        (found.value.as_ref(), found.revision),
        (&b"before"[..], before)
    );
    assert!(put(&store, KEY, "after").await > before);
}

#[tokio::test]
async fn what_a_newer_version_has_changed_meanwhile_is_not_written_to() {
    let server = EtcdServer::start();
    let store = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let before = put(&store, KEY, "before").await;
    let mut client = Client::connect([&server.url], None).await.unwrap();
    let format = "/registry/~berth/format";
    let own = client.get(format, None).await.unwrap();
    let own = own.kvs()[0].value().to_vec();
    let mut newer: serde_json::Value = serde_json::from_slice(&own).unwrap();
    newer["schema"] = serde_json::json!(999);
    client.put(format, newer.to_string(), None).await.unwrap();
    let refused = store
        .transact(write(KEY, Expect::Revision(before), "x"))
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("newer"), "{refused}");
    let stored = client.get(KEY, None).await.unwrap();
    assert_eq!(stored.kvs()[0].value(), b"before");
    // Put back, it goes on.
    client.put(format, own, None).await.unwrap();
    wait_for_async("it to go on", Duration::from_secs(20), || async {
        match store.transact(write(KEY, Expect::Any, "after")).await {
            Ok(Outcome::Committed(revision)) if revision > before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_etcd_without_the_data_is_not_served_from() {
    let mut server = EtcdServer::start();
    let store = Etcd::open(&config(&server, "/registry")).await.unwrap();
    put(&store, KEY, "1").await;
    server.lose_data();
    server.start_again();
    let error = wait_for_async("an answer", Duration::from_secs(20), || async {
        match store.revision().await {
            Err(StoreError::Lost) => Ok(StoreError::Lost.to_string()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.contains("berth store restore"), "{error}");
    let refused = store.transact(write(KEY, Expect::Absent, "2")).await;
    assert!(matches!(refused, Err(StoreError::Lost)), "{refused:?}");
}

#[tokio::test]
async fn an_etcd_that_was_put_back_goes_on_above_all_that_was_known() {
    let mut server = EtcdServer::start();
    let store = Arc::new(Etcd::open(&config(&server, "/registry")).await.unwrap());
    let other = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let kept = put(&store, KEY, "kept").await;
    server.kill();
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("data");
    copy_dir(server.dir(), &copied);
    server.start_again();
    answers(&store).await;
    let mut last = 0;
    for n in 0..20 {
        last = put(&store, "/registry/core/configmaps/n/lost", &n.to_string()).await;
    }
    other.revision().await.unwrap();
    server.lose_data();
    copy_dir(&copied, server.dir());
    server.start_again();
    let noticed = async |store: &Etcd| match store.revision().await {
        Err(StoreError::PutBack) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for_async("it is noticed", Duration::from_secs(20), || noticed(&store)).await;
    let now = store.revision().await.unwrap();
    assert!(now > last, "{now} is above {last}");
    // The other server agrees, whether or not it has seen the revision go back.
    wait_for_async("the other notices", Duration::from_secs(20), || {
        noticed(&other)
    })
    .await;
    assert_eq!(other.revision().await.unwrap(), now);
    let found = other.get(KEY).await.unwrap().unwrap();
    assert_eq!(found.value.as_ref(), b"kept");
    assert!(found.revision > kept, "every object has a new version");
    assert!(
        other
            .get("/registry/core/configmaps/n/lost")
            .await
            .unwrap()
            .is_none()
    );
    // A version from before is nobody's.
    let stale = store
        .transact(write(KEY, Expect::Revision(kept), "x"))
        .await
        .unwrap();
    assert!(matches!(stale, Outcome::Failed { .. }), "{stale:?}");
    let again = store.watch("/registry/".to_owned(), last + 1).await;
    assert!(matches!(again, Err(StoreError::Compacted { .. })));
    assert!(put(&store, KEY, "new").await > now);
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
