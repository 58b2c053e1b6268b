//! Two servers on one etcd: what Services get, and the endpoints of the API server's own Service.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_apiserver::{ServiceSettings, StoreConfig};
use berth_store::etcd::EtcdConfig;
use serde_json::{Value, json};

use super::harness::{Api, PATIENCE, names};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// An etcd of a test's own; ends with it.
struct Etcd {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    async fn start() -> Self {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            format!("http://{address}")
        };
        let dir = tempfile::tempdir().unwrap();
        let (url, peer) = (free(), free());
        let cluster = format!("t={peer}");
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
            .args(["--initial-cluster", &cluster])
            .arg("--data-dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (Debian: etcd-server)");
        let etcd = Self {
            child,
            url,
            _dir: dir,
        };
        let ready = async {
            let address = etcd.url.trim_start_matches("http://").to_owned();
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("etcd answers");
        etcd
    }

    async fn server(&self, last: u8) -> Api {
        Api::start_with(|config| {
            let etcd = EtcdConfig::new(std::slice::from_ref(&self.url), "/t");
            config.store = StoreConfig::Etcd(etcd);
            config.services = ServiceSettings::parse("10.0.0.0/25", "100-180").unwrap();
            config.advertise = [10, 9, 8, last].into();
        })
        .await
    }
}

async fn endpoints(api: &Api) -> BTreeSet<String> {
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = api.get(slice).await.expect(200);
    let list = slice["endpoints"].as_array().unwrap().iter();
    list.map(|e| e["addresses"][0].as_str().unwrap().to_owned())
        .collect()
}

async fn until(api: &Api, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let found = async {
        while endpoints(api).await != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the endpoints");
}

#[tokio::test]
async fn two_servers_give_nothing_twice_and_are_both_endpoints() {
    let etcd = Etcd::start().await;
    let one = etcd.server(1).await;
    let two = etcd.server(2).await;
    until(&one, &["10.9.8.1", "10.9.8.2"]).await;
    let make = async |api: &Api, name: String| -> Value {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        // Who is always overtaken by the other server is told so, and asks again.
        loop {
            let answer = api.post(SERVICES, body.clone()).await;
            if answer.code != 503 {
                return answer.expect(201);
            }
        }
    };
    let all = (0..60).map(|n| {
        let api = if n % 2 == 0 { &one } else { &two };
        make(api, format!("s{n}"))
    });
    let all = futures::future::join_all(all).await;
    let ips: BTreeSet<&str> = all
        .iter()
        .map(|s| s["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports = all
        .iter()
        .map(|s| s["spec"]["ports"][0]["nodePort"].as_i64().unwrap());
    assert_eq!(
        (ips.len(), ports.collect::<BTreeSet<i64>>().len()),
        (60, 60)
    );
    let gone = two.delete(SERVICES).await.expect(200);
    assert!(gone["items"].as_array().unwrap().len() >= 60);
    let left = one
        .get("/apis/networking.k8s.io/v1/ipaddresses")
        .await
        .expect(200);
    let left = names(&left);
    assert!(left.is_empty() || left == ["10.0.0.1"], "{left:?}");
    two.stop().await;
    until(&one, &["10.9.8.1"]).await;
}
