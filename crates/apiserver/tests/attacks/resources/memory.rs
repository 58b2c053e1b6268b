//! What clients that don't read cost in memory. Each of these tests runs in a process of its own, so that it measures
//! itself alone.

use std::process::Command;

use serde_json::json;
use tokio::net::TcpSocket;

use super::*;
use crate::harness::{CONFIG_MAPS, PODS, TOKEN, bind, class};

const ALONE: &str = "BERTH_TEST_ALONE";
const MIB: usize = 1 << 20;
/// Watches that one client opens without reading them.
const WATCHES: usize = 40;

/// Runs a test of this file in a process of its own; false in that process.
fn in_own_process(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("resources::memory::{test}"),
            "--nocapture",
        ])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "{text}");
    true
}

/// Resident memory of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// The most memory that this process has had.
fn peak() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test]
async fn items_of_two_characters_do_not_become_gigabytes() {
    if in_own_process("items_of_two_characters_do_not_become_gigabytes") {
        return;
    }
    let api = Api::start_with(with_users).await;
    crate::harness::bind(&api, "tenant", "edit", "mallory").await;
    let before = peak();
    for list in [
        "volumes",
        "containers",
        "initContainers",
        "ephemeralContainers",
    ] {
        let items = vec!["{}"; 200_000].join(",");
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{"{list}":[{items}]}}}}"#
        );
        let headers = [
            ("impersonate-user", "mallory"),
            ("content-type", "application/json"),
        ];
        let path = format!("{}?dryRun=All", crate::harness::PODS);
        let answer = api.raw("POST", &path, &headers, body).await;
        assert_eq!(answer.code, 400, "{:.300}", answer.text);
        assert!(
            answer.text.contains("too many items"),
            "{:.300}",
            answer.text
        );
        let grown = peak().saturating_sub(before) / MIB;
        assert!(grown < 250, "{grown} MiB for 600 kB of {list}");
    }
    others_are_served(&api).await;
}

/// A client that sends a request and never reads, with a small buffer.
async fn deaf(api: &Api, path: &str, user: &str) -> TcpStream {
    deaf_with(api, path, user, "application/json").await
}

/// [`deaf`], who would like another form.
async fn deaf_with(api: &Api, path: &str, user: &str, accept: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(api.address).await.unwrap();
    let request = format!("{}Accept: {accept}\r\n\r\n", head("GET", path, user));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

/// A watch on which nothing happens; none when it is refused for now.
async fn watch_pods(api: &Api, user: &str) -> Option<TcpStream> {
    let request = head("GET", &format!("{PODS}?watch=true"), user) + "\r\n";
    let mut stream = sent(api, request).await;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    match &first[9..] {
        b"200" => Some(stream),
        b"429" => None,
        other => panic!("{}", String::from_utf8_lossy(other)),
    }
}

fn large(name: &str, fill: usize) -> serde_json::Value {
    let data = (fill % 10).to_string().repeat(MIB);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": data}})
}

#[tokio::test]
async fn watches_that_are_not_read_keep_nothing_and_are_closed() {
    if in_own_process("watches_that_are_not_read_keep_nothing_and_are_closed") {
        return;
    }
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.deadlines.stall = Duration::from_secs(1);
        config.limits.max_watches_per_user = WATCHES;
    })
    .await;
    api.post(CONFIG_MAPS, large("a", 0)).await.expect(201);
    // What the server and this client need for one change is not of the watches.
    for n in 0..2 {
        api.put(&format!("{CONFIG_MAPS}/a"), &large("a", n))
            .await
            .expect(200);
    }
    bind(&api, "jane", "view", "jane").await;
    let before = resident();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(deaf(&api, &format!("{CONFIG_MAPS}?watch=true"), "jane").await);
    }
    let mut most = 0;
    for n in 0..6 {
        api.put(&format!("{CONFIG_MAPS}/a"), &large("a", n))
            .await
            .expect(200);
        most = most.max(resident());
    }
    let grown = most.saturating_sub(before) / MIB;
    assert!(grown < WATCHES, "{grown} MiB for {WATCHES} watches");
    others_are_served(&api).await;
    // The places of the closed ones are free again.
    let begun = Instant::now();
    let mut next = Vec::new();
    while next.len() < WATCHES {
        assert!(begun.elapsed() < PATIENCE, "{} are closed", next.len());
        match watch_pods(&api, "jane").await {
            Some(watch) => next.push(watch),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    // A client that begins to read finds the end.
    let begun = Instant::now();
    for watch in &mut watches {
        rest(watch).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn lists_of_everything_that_are_not_read_keep_nothing() {
    if in_own_process("lists_of_everything_that_are_not_read_keep_nothing") {
        return;
    }
    let api = Api::start_with(with_users).await;
    for n in 0..8 {
        api.post(CONFIG_MAPS, large(&format!("a{n}"), n))
            .await
            .expect(201);
    }
    let before = resident();
    let mut lists = Vec::new();
    for n in 0..60 {
        // Lists, watches that begin with everything, and Tables are the same to whoever wants memory.
        let query = ["", "?watch=true", "?limit=500"][n % 3];
        let accept = ["application/json", "application/yaml"][n / 3 % 2];
        let path = format!("{CONFIG_MAPS}{query}");
        lists.push(deaf_with(&api, &path, TOKEN, accept).await);
    }
    let grown = resident().saturating_sub(before) / MIB;
    assert!(grown < 60, "{grown} MiB for 60 lists of 8 MiB");
    others_are_served(&api).await;
    api.post(crate::harness::CLASSES, class("a", "runsc"))
        .await
        .expect(201);
}

/// What was there a minute ago takes memory for each who asks, and nothing that is there now says how much.
#[tokio::test]
async fn lists_of_the_past_do_not_become_gigabytes() {
    if in_own_process("lists_of_the_past_do_not_become_gigabytes") {
        return;
    }
    let api = Api::start_with(with_users).await;
    bind(&api, "tenant", "edit", "mallory").await;
    for n in 0..12 {
        api.post(CONFIG_MAPS, large(&format!("a{n}"), n))
            .await
            .expect(201);
    }
    let list = api.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    api.delete(CONFIG_MAPS).await.expect(200);
    let path =
        format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact&limit=1000");
    let before = resident();
    let mut lists = Vec::new();
    for _ in 0..37 {
        let request = head("GET", &path, "mallory") + "\r\n";
        lists.push(sent(&api, request).await);
    }
    // The first ones are there, or all would be.
    let begun = Instant::now();
    let mut first = [0; 12];
    lists[0].read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut most = resident();
    while begun.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(resident());
    }
    let grown = most.saturating_sub(before) / MIB;
    assert!(grown < 200, "{grown} MiB for 37 lists of 12 MiB");
    others_are_served(&api).await;
}

#[tokio::test]
async fn a_long_list_is_whole_in_every_form() {
    let api = Api::start().await;
    for n in 0..3 {
        api.post(CONFIG_MAPS, long(&format!("a{n}")))
            .await
            .expect(201);
    }
    let list = api.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(crate::harness::names(&list), ["a0", "a1", "a2"]);
    assert_eq!(list["kind"], "ConfigMapList");
    for item in list["items"].as_array().unwrap() {
        assert_eq!(item["data"], long("")["data"]);
    }
    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = api.raw("GET", CONFIG_MAPS, &table, "").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"].as_array().unwrap().len(), 3);
    assert_eq!(table["rows"][2]["cells"][0], "a2");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    // The largest documents are written in that part of YAML that is JSON.
    let yaml = api.raw("GET", CONFIG_MAPS, &[("accept", "application/yaml")], "");
    let yaml = yaml.await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert_eq!(yaml.expect(200), list);
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let deleted = api.delete(&path).await.expect(200);
    assert_eq!(deleted["items"], list["items"]);
    let odd = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let odd = api
        .raw("GET", &format!("{CONFIG_MAPS}?includeObject=Odd"), &odd, "")
        .await;
    assert_eq!(odd.code, 400, "{}", odd.text);
    // Compressed as it goes, for whoever takes it.
    let mut sender = http2(&api).await;
    let mut asked = request("GET", CONFIG_MAPS, TOKEN, whole(""));
    asked
        .headers_mut()
        .insert("accept-encoding", "gzip".parse().unwrap());
    let response = answered(sender.send_request(asked)).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = response.into_body().collect().await.unwrap().to_bytes();
    assert!(packed.len() < MIB / 16);
    let unpacked: serde_json::Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(packed.as_ref())).unwrap();
    assert_eq!(unpacked, list);
}

/// Three of these make a long list.
fn long(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "x".repeat(200 << 10)}})
}
