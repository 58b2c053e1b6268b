//! Watches over WebSockets.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::{Api, CONFIG_MAPS, PATIENCE, TOKEN};

type Socket = WebSocketStream<TcpStream>;

/// A socket, or the answer that was given instead.
async fn open(
    api: &Api,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Option<String>), u16> {
    let url = format!("ws://{}{path}", api.address);
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {TOKEN}");
    request
        .headers_mut()
        .insert("authorization", bearer.parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    // What a client does not read must not fit into its own buffers.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(api.address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol");
            let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
            Ok((socket, protocol))
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

async fn message(socket: &mut Socket) -> Option<Message> {
    let next = tokio::time::timeout(PATIENCE, socket.next());
    next.await.expect("a message in time")?.ok()
}

/// Type and name of the next event.
async fn told(socket: &mut Socket) -> (String, String) {
    let message = message(socket).await.expect("the watch goes on");
    let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&event["type"]),
        text(&event["object"]["metadata"]["name"]),
    )
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn each_event_is_a_message() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let (mut socket, protocol) = open(&api, &path, &[]).await.unwrap();
    assert_eq!(protocol, None);
    assert_eq!(told(&mut socket).await, pair("ADDED", "a"));
    // One that is sent in several parts is still one message.
    let large = "x".repeat(300_000);
    api.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"x": large}}))
        .await
        .expect(200);
    assert_eq!(told(&mut socket).await, pair("MODIFIED", "a"));
    socket
        .send(Message::Ping(b"there?".to_vec().into()))
        .await
        .unwrap();
    assert_eq!(
        message(&mut socket).await,
        Some(Message::Pong(b"there?".to_vec().into()))
    );
    api.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    assert_eq!(told(&mut socket).await, pair("DELETED", "a"));
    // In protobuf where that is asked for, and with the one protocol that is offered.
    let headers = [
        ("accept", "application/vnd.kubernetes.protobuf"),
        ("sec-websocket-protocol", "v1.watch.example"),
    ];
    let (mut socket, protocol) = open(&api, &path, &headers).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("v1.watch.example"));
    api.config_map("b", json!({})).await;
    let Some(Message::Binary(event)) = message(&mut socket).await else {
        panic!("no binary message");
    };
    assert!(event.windows(4).any(|bytes| bytes == b"k8s\0"));
    // It ends with the watch.
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0");
    let (mut socket, _) = open(&api, &path, &[]).await.unwrap();
    assert_eq!(told(&mut socket).await, pair("ADDED", "b"));
    assert!(matches!(
        message(&mut socket).await,
        Some(Message::Close(_)) | None
    ));
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_no_socket() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    for (path, headers, code) in [
        (path.as_str(), vec![("impersonate-user", "nobody")], 403),
        (path.as_str(), vec![("authorization", "Bearer wrong")], 401),
        (path.as_str(), vec![("sec-websocket-version", "12")], 400),
        (path.as_str(), vec![("sec-websocket-protocol", "a, b")], 400),
        (
            "/api/v1/namespaces/default/nothings?watch=true",
            vec![],
            404,
        ),
        // What streams nothing is answered as ever.
        (CONFIG_MAPS, vec![], 200),
    ] {
        let answered = open(&api, path, &headers).await.map(|_| ());
        assert_eq!(answered, Err(code), "{path} {headers:?}");
    }
    // Too much from a client ends it.
    let (mut socket, _) = open(&api, &path, &[]).await.unwrap();
    let _ = socket.send(Message::binary(vec![0; 100_000])).await;
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(PATIENCE, end).await.expect("an end");
}

/// A client that does not read holds nothing for ever.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let api = Api::start_with(|config| {
        config.limits.deadlines.stall = Duration::from_millis(500);
    })
    .await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let (socket, _) = open(&api, &path, &[]).await.unwrap();
    let open_watches = async || {
        let metrics = api.get("/metrics").await.text;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("apiserver_longrunning_requests{")
                && line.contains("resource=\"configmaps\"")
        });
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        counts.sum::<f64>()
    };
    assert!(open_watches().await > 0.5);
    let large = "x".repeat(1 << 20);
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut n = 0;
    while open_watches().await > 0.5 {
        assert!(tokio::time::Instant::now() < until, "it is still held");
        let body = json!({"metadata": {"name": format!("m{n}")}, "data": {"x": large}});
        api.post(CONFIG_MAPS, body).await.expect(201);
        n += 1;
    }
    drop(socket);
}
