//! The suite over a real etcd on loopback, and what only an etcd can do to a store.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "etcd/outside.rs"]
mod outside;
#[path = "backend/suite.rs"]
mod suite;
#[path = "etcd/tls.rs"]
mod tls;
#[path = "etcd/troubles.rs"]
mod troubles;

use std::sync::Arc;

use berth_store::Store;
use berth_store::etcd::{Etcd, EtcdConfig};
use berth_testkit::EtcdServer;

fn config(server: &EtcdServer, prefix: &str) -> EtcdConfig {
    EtcdConfig::new(std::slice::from_ref(&server.url), prefix)
}

async fn open(server: &EtcdServer) -> Arc<dyn Store> {
    Arc::new(Etcd::open(&config(server, "/test")).await.unwrap())
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let server = EtcdServer::start();
            suite::$name(open(&server).await).await;
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
