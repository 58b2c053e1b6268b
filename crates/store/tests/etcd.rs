//! The suite over a real etcd on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "backend/suite.rs"]
mod suite;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_store::Store;
use berth_store::etcd::Etcd;

/// An etcd of a test's own; ends with it.
struct Server {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let child = Command::new("etcd")
        .args(["--name", "t", "--log-level", "error", "--unsafe-no-fsync"])
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("t={peer}")])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed (Debian: etcd-server)");
    Server {
        child,
        url,
        _dir: dir,
    }
}

async fn open(server: &Server) -> Arc<dyn Store> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match Etcd::connect(std::slice::from_ref(&server.url), "/test").await {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let server = start();
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
    many_writers_lose_nothing,
    the_future_is_refused,
);
