//! Others who use the same etcd: stock servers, newer versions, other clusters.

use std::sync::Arc;

use berth_store::etcd::Etcd;
use berth_store::{Expect, Outcome, Store, Write};
use berth_testkit::EtcdServer;
use etcd_client::{Client, GetOptions};

use super::config;

async fn raw(server: &EtcdServer) -> Client {
    // The store's own patience for an etcd that is starting.
    drop(Etcd::open(&config(server, "/unrelated")).await.unwrap());
    Client::connect([&server.url], None).await.unwrap()
}

async fn everything_below(client: &mut Client, prefix: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let options = GetOptions::new().with_prefix();
    let got = client.get(prefix, Some(options)).await.unwrap();
    let pairs = got.kvs().iter();
    pairs
        .map(|kv| (kv.key().to_vec(), kv.value().to_vec()))
        .collect()
}

async fn refusal(server: &EtcdServer, prefix: &str) -> String {
    match Etcd::open(&config(server, prefix)).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_prefix_of_others_is_refused_and_left_as_it_is() {
    let server = EtcdServer::start();
    let mut client = raw(&server).await;
    let stock = "/registry/pods/default/p";
    client
        .put(stock, b"k8s\0\x0a\x09".to_vec(), None)
        .await
        .unwrap();
    client.put("/others/x", "1", None).await.unwrap();
    client
        .put("/newer/~berth/format", r#"{"schema": 2}"#, None)
        .await
        .unwrap();
    client
        .put("/broken/~berth/format", "{", None)
        .await
        .unwrap();
    let before = everything_below(&mut client, "/").await;
    let error = refusal(&server, "/registry").await;
    assert!(
        error.contains(stock) && error.contains("kube-apiserver's, in protobuf"),
        "{error}"
    );
    assert!(error.contains("nothing was written"), "{error}");
    let error = refusal(&server, "others/").await;
    assert!(error.contains("another program's"), "{error}");
    let error = refusal(&server, "/newer").await;
    assert!(
        error.contains("newer version of berth (schema 2, this one knows 1)"),
        "{error}"
    );
    let error = refusal(&server, "/broken").await;
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(everything_below(&mut client, "/").await, before);
}

#[tokio::test]
async fn clusters_side_by_side_do_not_see_each_other() {
    let server = EtcdServer::start();
    let one: Arc<dyn Store> = Arc::new(Etcd::open(&config(&server, "/one")).await.unwrap());
    let two: Arc<dyn Store> = Arc::new(Etcd::open(&config(&server, "/two")).await.unwrap());
    let quiet = two.revision().await.unwrap();
    let write = Write {
        key: "/registry/core/pods/n/p".to_owned(),
        expect: Expect::Absent,
        value: Some("1".into()),
    };
    let Outcome::Committed(at) = one.transact(vec![write]).await.unwrap() else {
        panic!("nothing was there");
    };
    assert_eq!(one.revision().await.unwrap(), at);
    assert_eq!(two.revision().await.unwrap(), quiet);
    assert_eq!(two.get("/registry/core/pods/n/p").await.unwrap(), None);
}

#[tokio::test]
async fn servers_that_start_together_agree_on_a_new_prefix() {
    let server = EtcdServer::start();
    let config = config(&server, "/registry");
    let opening = (0..5).map(|n| {
        let config = config.clone();
        // Each would begin elsewhere.
        tokio::spawn(async move { Etcd::open_above(&config, n * 1000).await.unwrap() })
    });
    let mut revisions = Vec::new();
    for opened in futures::future::join_all(opening).await {
        revisions.push(opened.unwrap().revision().await.unwrap());
    }
    assert!(revisions.windows(2).all(|w| w[0] == w[1]), "{revisions:?}");
}

#[tokio::test]
async fn one_of_several_servers_compacts() {
    let server = EtcdServer::start();
    let one = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let two = Etcd::open(&config(&server, "/registry")).await.unwrap();
    let mut last = 0;
    for n in 0..10 {
        let write = Write {
            key: "/registry/core/pods/n/p".to_owned(),
            expect: Expect::Any,
            value: Some(n.to_string().into()),
        };
        if let Outcome::Committed(at) = one.transact(vec![write]).await.unwrap() {
            last = at;
        }
    }
    let readable = async |revision| {
        let range = berth_store::Range {
            prefix: "/registry/".to_owned(),
            revision,
            ..berth_store::Range::default()
        };
        one.range(range).await.is_ok()
    };
    one.compact(last - 5).await.unwrap();
    assert!(!readable(last - 6).await && readable(last - 5).await);
    // The other sees that somebody just has.
    two.compact(last - 2).await.unwrap();
    assert!(readable(last - 5).await);
    // Nobody has since then.
    two.compact(last - 2).await.unwrap();
    assert!(!readable(last - 5).await && readable(last - 2).await);
}
