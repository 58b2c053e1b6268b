//! Connections that are slow, idle, or too many.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::harness::{CONFIG_MAPS, bind};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.deadlines.header = Duration::from_millis(400);
    })
    .await;
    let begun = Instant::now();
    for start in ["", "PRI * HT", "GET /version HTTP/1.1\r\nHost: berth\r\n"] {
        let mut stream = sent(&api, start).await;
        let (mut read, mut write) = stream.split();
        let drip = async {
            // One byte at a time, as long as the server takes them.
            while write.write_all(b"X").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let mut text = Vec::new();
        // The drip alone would go on for ever.
        tokio::select! {
            end = tokio::time::timeout(PATIENCE, read.read_to_end(&mut text)) => drop(end.expect("closed in time")),
            () = drip => {}
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(6));
    others_are_served(&api).await;
    api.stop().await;
}

#[tokio::test]
async fn half_open_connections_crowd_out_only_each_other() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.max_unauthenticated_connections = 40;
    })
    .await;
    // Jane has a connection from before, at the same address.
    let mut jane = http2(&api).await;
    let version = |sender: &mut SendRequest<Body>| {
        sender.send_request(request("GET", "/version", "jane", empty()))
    };
    assert_eq!(answered(version(&mut jane)).await.status(), 200);
    let mut open = Vec::new();
    for round in 0..10 {
        for _ in 0..30 {
            open.push(sent(&api, "GET /version HTTP/1.1\r\nHost").await);
        }
        let (code, took) = timed(&api, "GET", "/version", "jane").await;
        assert_eq!(code, 200, "round {round}");
        assert!(took < SOON, "{took:?}");
    }
    for stream in &mut open[..200] {
        rest(stream).await;
    }
    let mut last = open.pop().unwrap();
    last.write_all(b": berth\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut last).await.starts_with("HTTP/1.1 200"));
    assert_eq!(answered(version(&mut jane)).await.status(), 200);
    others_are_served(&api).await;
}

#[tokio::test]
async fn one_user_has_so_many_connections() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.max_connections_per_user = 10;
    })
    .await;
    let get = head("GET", "/version", "mallory") + "\r\n";
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = sent(&api, &get).await;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    let refused = rest(&mut sent(&api, &get).await).await.to_lowercase();
    assert!(refused.starts_with("http/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 5"), "{refused}");
    assert!(
        refused.contains("too many connections of user"),
        "{refused}"
    );
    others_are_served(&api).await;
    drop(open);
    let deadline = Instant::now() + PATIENCE;
    while timed(&api, "GET", "/version", "mallory").await.0 != 200 {
        assert!(Instant::now() < deadline, "places become free");
    }
}

#[tokio::test]
async fn slow_bodies_end_in_time() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.deadlines.body = Duration::from_millis(300);
    })
    .await;
    let post = head("POST", REVIEWS, "mallory")
        + "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    let begun = Instant::now();
    let text = rest(&mut sent(&api, post).await).await;
    assert!(text.starts_with("HTTP/1.1 504"), "{text}");
    assert!(
        text.contains("the body of the request came too slowly"),
        "{text}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_request_has_its_time() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.request_timeout = Duration::from_millis(500);
    })
    .await;
    let post = head("POST", REVIEWS, "mallory")
        + "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    let text = rest(&mut sent(&api, post).await).await;
    assert!(text.starts_with("HTTP/1.1 504"), "{text}");
    assert!(
        text.contains("Timeout: request did not complete within the allotted timeout"),
        "{text}"
    );
}

#[tokio::test]
async fn idle_connections_are_closed_and_watches_are_not() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.deadlines.idle = Duration::from_millis(300);
        config.limits.deadlines.header = Duration::from_millis(300);
    })
    .await;
    bind(&api, "view", "view", "jane").await;
    let mut idle = http2(&api).await;
    let mut busy = http2(&api).await;
    let get = |path: &str| request("GET", path, "jane", empty());
    assert_eq!(
        answered(idle.send_request(get("/version"))).await.status(),
        200
    );
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=a=b");
    let mut watch = answered(busy.send_request(get(&path))).await;
    let deadline = Instant::now() + PATIENCE;
    while !idle.is_closed() {
        assert!(Instant::now() < deadline, "the idle connection is closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    api.config_map("seen", json!({"a": "b"})).await;
    let frame = tokio::time::timeout(PATIENCE, watch.body_mut().frame());
    let frame = frame.await.unwrap().unwrap().unwrap();
    assert!(
        frame
            .data_ref()
            .unwrap()
            .starts_with(b"{\"type\":\"ADDED\"")
    );
}

#[tokio::test]
async fn cancelling_again_and_again_ends_the_connection() {
    let api = Api::start_with(with_users).await;
    let mut sender = http2(&api).await;
    let mut rounds = 0;
    let closed = loop {
        rounds += 1;
        let cancelled = sender.send_request(request("POST", REVIEWS, "mallory", never()));
        // When this one is answered, the server has begun with the one before.
        let probe = sender.send_request(request("GET", "/livez", "mallory", empty()));
        match tokio::time::timeout(PATIENCE, probe)
            .await
            .expect("an answer or an end")
        {
            Ok(response) => drop(response.into_body().collect().await),
            Err(_) => break true,
        }
        drop(cancelled);
        if rounds > 2000 {
            break false;
        }
    };
    assert!(closed, "{rounds} requests were cancelled");
    others_are_served(&api).await;
}
