use std::convert::Infallible;

use hyper::{server::conn::http1 as server, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Reads up to the end of a request's or response's head.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A node that answers one connection with `answer` and then echoes in upper case; gives the head
/// of the request that it got.
async fn node(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return head,
                Ok(n) => stream
                    .write_all(buffer[..n].to_ascii_uppercase().as_slice())
                    .await
                    .unwrap(),
            }
        }
    });
    (port, task)
}

/// A server that sends everything on to a node's port.
async fn front(port: u16) -> TcpStream {
    front_of(port, Tunnels::default()).await
}

async fn front_of(port: u16, tunnels: Tunnels) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request| {
            let tunnels = tunnels.clone();
            async move {
                let target = Target {
                    host: "127.0.0.1".to_owned(),
                    port,
                    tls: false,
                    peer: Peer::Pod(address::PodNetwork::default()),
                    path_and_query: "/exec/ns/p/c?command=a".to_owned(),
                };
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let answer = exchange(
                    &tunnels,
                    stream,
                    "127.0.0.1:1",
                    &target.path_and_query,
                    request,
                )
                .await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|error| http_types::error(&error)))
            }
        });
        server::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    });
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let (port, node) = node(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    )
    .await;
    let tunnels = Tunnels::default();
    let mut client = front_of(port, tunnels.clone()).await;
    let request = "POST /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    head(&mut client).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'A');
    assert!(tunnels.count() > 0);
    tunnels.end().await;
    assert_eq!(tunnels.count(), 0);
    let mut rest = Vec::new();
    // A reset is as good.
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    node.await.unwrap();
}

#[tokio::test]
async fn an_upgraded_connection_is_joined_byte_for_byte() {
    let (port, node) = node("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n").await;
    let mut client = front(port).await;
    let request = "POST /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nAuthorization: Bearer secret\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(
        answer.contains("x-stream-protocol-version: v4.channel.k8s.io")
            && answer.contains("upgrade: spdy/3.1"),
        "{answer}"
    );
    client.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"PING");
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut echoed).await.unwrap(), 0);
    let seen = node.await.unwrap().to_ascii_lowercase();
    assert!(
        seen.starts_with("post /exec/ns/p/c?command=a http/1.1"),
        "{seen}"
    );
    assert!(
        seen.contains("upgrade: spdy/3.1") && !seen.contains("secret"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_refused_upgrade_comes_back_as_it_is() {
    let (port, _) = node("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found").await;
    let mut client = front(port).await;
    client
        .write_all(
            b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let mut body = [0; 9];
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"not found");
}
