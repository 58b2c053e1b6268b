//! Exec, attach and port-forward as kubectl speaks them.

use berth_cri_api::v1::*;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::client::{pod, shell, until};
use crate::server::{Server, handlers};
use crate::spdy::Spdy;

pub(crate) async fn websocket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    offered_websocket(url, protocol, protocol).await
}

/// Opens one with several protocols to choose from.
async fn offered_websocket(url: &str, offered: &str, chosen: &str) -> WebSocketStream<TcpStream> {
    let url = url.replacen("http://", "ws://", 1);
    let mut request = url.as_str().into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", offered.parse().unwrap());
    let address = request.uri().authority().unwrap().to_string();
    let socket = TcpStream::connect(address).await.unwrap();
    let (socket, answer) = tokio_tungstenite::client_async(request, socket)
        .await
        .unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], chosen);
    socket
}

/// What came on each channel until the close.
async fn collect(socket: &mut WebSocketStream<TcpStream>) -> [String; 4] {
    let mut channels: [Vec<u8>; 4] = Default::default();
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            Message::Binary(bytes) => {
                channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..])
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    channels.map(|bytes| String::from_utf8(bytes).unwrap())
}

async fn exec_url(
    server: &mut Server,
    container: &str,
    script: &str,
    stdin: bool,
    tty: bool,
) -> String {
    let request = ExecRequest {
        container_id: container.to_owned(),
        cmd: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        tty,
        stdin,
        stdout: true,
        stderr: !tty,
    };
    server.client.exec(request).await.unwrap().into_inner().url
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_websocket() {
    let mut server = Server::start().await;
    let config = pod(&server, "ws");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;

    let url = exec_url(
        &mut server,
        &container,
        "cat; echo end >&2; exit 3",
        true,
        false,
    )
    .await;
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    socket
        .send(Message::Binary(Bytes::from_static(b"\x00typed")))
        .await
        .unwrap();
    // Version 5's half-close of stdin.
    socket
        .send(Message::Binary(Bytes::from_static(&[255, 0])))
        .await
        .unwrap();
    let [_, stdout, stderr, error] = collect(&mut socket).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("typed", "end\n"));
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["reason"], "NonZeroExitCode");
    assert_eq!(error["details"]["causes"][0]["message"], "3");

    // A URL is good once.
    let address = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    request.headers_mut().insert(
        "sec-websocket-protocol",
        "v5.channel.k8s.io".parse().unwrap(),
    );
    let again = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, again)
        .await
        .unwrap_err();

    let url = exec_url(&mut server, &container, "read x; stty size", true, true).await;
    let mut socket = websocket(&url, "v4.channel.k8s.io").await;
    let size = Bytes::from_static(b"\x04{\"Width\":123,\"Height\":45}");
    socket.send(Message::Binary(size)).await.unwrap();
    // The size is set by another way than the typing; it has come when the shell says so.
    loop {
        let url = exec_url(
            &mut server,
            &container,
            "for t in /dev/pts/*; do stty size < $t; done",
            false,
            false,
        )
        .await;
        let [_, sizes, _, _] = collect(&mut websocket(&url, "v4.channel.k8s.io").await).await;
        if sizes.contains("45 123") {
            break;
        }
    }
    socket
        .send(Message::Binary(Bytes::from_static(b"\x00\r")))
        .await
        .unwrap();
    let [_, stdout, _, error] = collect(&mut socket).await;
    assert!(stdout.contains("45 123"), "{stdout:?}");
    assert!(error.contains("\"Success\""), "{error}");

    // A command that asks at once finds the size that the client has said when it connected.
    for _ in 0..5 {
        let url = exec_url(&mut server, &container, "stty size", true, true).await;
        let mut socket = websocket(&url, "v4.channel.k8s.io").await;
        let size = Bytes::from_static(b"\x04{\"Width\":123,\"Height\":45}");
        socket.send(Message::Binary(size)).await.unwrap();
        let [_, stdout, _, _] = collect(&mut socket).await;
        assert!(stdout.contains("45 123"), "{stdout:?}");
    }
    server.finish().await;
}

/// The size that a client tells first comes while the command is only being started, and must not be lost.
async fn terminal(handler: &str) {
    let text = "[handlers.runc]\n[handlers.third-party]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let config = pod(&server, "terminal");
    let id = server.run(&config, handler).await;
    let size = |size: &str| {
        format!("until [ \"$(stty size 2>/dev/null)\" = \"{size}\" ]; do sleep 0.02; done")
    };
    let script = format!(
        "{}; echo first; {}; echo second",
        size("45 123"),
        size("50 80")
    );
    let exec = server
        .launch(&id, &config, shell("exec", "sleep 1000"))
        .await;
    let exec = exec_url(&mut server, &exec, &script, true, true).await;
    let mut attached = shell("attach", &script);
    (attached.tty, attached.stdin) = (true, true);
    let attached = server.launch(&id, &config, attached).await;
    let request = AttachRequest {
        container_id: attached,
        stdin: true,
        tty: true,
        stdout: true,
        stderr: false,
    };
    let attached = server.client.attach(request).await.unwrap();
    for url in [exec, attached.into_inner().url] {
        let mut socket = websocket(&url, "v4.channel.k8s.io").await;
        let mut tell = async |size: &'static [u8]| {
            let message = Message::Binary(Bytes::from_static(size));
            socket.send(message).await.unwrap();
            let mut seen = Vec::new();
            let limit = std::time::Duration::from_secs(30);
            while !seen.ends_with(b"first\r\n") && !seen.ends_with(b"second\r\n") {
                let next = tokio::time::timeout(limit, socket.next()).await;
                let next = next.unwrap_or_else(|_| panic!("{url}: no end of {seen:?}"));
                if let Some(Ok(Message::Binary(bytes))) = next
                    && bytes.first() == Some(&1)
                {
                    seen.extend_from_slice(&bytes[1..]);
                }
            }
            String::from_utf8(seen).unwrap()
        };
        assert_eq!(
            tell(b"\x04{\"Width\":123,\"Height\":45}").await,
            "first\r\n"
        );
        assert_eq!(
            tell(b"\x04{\"Width\":80,\"Height\":50}").await,
            "second\r\n"
        );
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_have_the_clients_size() {
    terminal("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_of_a_third_party_shim_have_the_clients_size() {
    terminal("third-party").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_over_websocket() {
    let mut server = Server::start().await;
    let config = pod(&server, "attach");
    let id = server.run(&config, "").await;
    let mut container = shell("c", "read line; echo got $line; cat");
    container.stdin = true;
    container.stdin_once = true;
    let container = server.launch(&id, &config, container).await;
    let request = AttachRequest {
        container_id: container.clone(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let url = server
        .client
        .attach(request)
        .await
        .unwrap()
        .into_inner()
        .url;
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    socket
        .send(Message::Binary(Bytes::from_static(b"\x00one\ntwo")))
        .await
        .unwrap();
    socket
        .send(Message::Binary(Bytes::from_static(&[255, 0])))
        .await
        .unwrap();
    let [_, stdout, _, _] = collect(&mut socket).await;
    assert_eq!(stdout, "got one\ntwo");
    assert_eq!(server.ended(&container).await.exit_code, 0);
    server.finish().await;
}

/// GitLab Runner gives a job's scripts to a shell so, one attach after the other, and reads no output by it.
#[tokio::test(flavor = "multi_thread")]
async fn attach_with_stdin_alone_lasts_until_the_client_has_said_all() {
    let mut server = Server::start().await;
    let config = pod(&server, "stdin");
    let id = server.run(&config, "").await;
    let mut container = shell("c", "while read line; do echo got $line; done");
    container.stdin = true;
    let container = server.launch(&id, &config, container).await;
    let request = AttachRequest {
        container_id: container.clone(),
        stdin: true,
        ..AttachRequest::default()
    };
    let mut told = String::new();
    for line in ["one", "two", "three"] {
        let answer = server.client.attach(request.clone()).await.unwrap();
        let mut socket = websocket(&answer.into_inner().url, "v5.channel.k8s.io").await;
        // It is not over because there is no output to wait for.
        let over = collect(&mut socket);
        let pause = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(pause, over).await.is_err(), "{line}");
        let text = [b"\0".as_slice(), line.as_bytes(), b"\n"].concat();
        socket.send(Message::Binary(text.into())).await.unwrap();
        let end = Message::Binary(Bytes::from_static(&[255, 0]));
        socket.send(end).await.unwrap();
        collect(&mut socket).await;
        told += &format!("got {line}\n");
        until("the line in the log", async || {
            let log = server.log(&config, "c");
            if log == told { Ok(()) } else { Err(log) }
        })
        .await;
    }
    // A client that says nothing is not kept longer than the container.
    let answer = server.client.attach(request).await.unwrap();
    let mut socket = websocket(&answer.into_inner().url, "v5.channel.k8s.io").await;
    server.stop_container(&container, 0).await;
    let over = tokio::time::timeout(std::time::Duration::from_secs(20), collect(&mut socket));
    over.await.expect("the session ends with the container");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_spdy() {
    let mut server = Server::start().await;
    let config = pod(&server, "spdy");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let url = exec_url(
        &mut server,
        &container,
        "cat; echo end >&2; exit 3",
        true,
        false,
    )
    .await;
    let mut spdy = Spdy::dial(&url, "v4.channel.k8s.io").await;
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        spdy.open(id, &[("streamtype", kind)]).await;
    }
    let big = vec![b'x'; 300_000];
    spdy.send(3, &big, true).await;
    let streams = spdy.read_to_end().await;
    assert_eq!(streams[&5], big);
    assert_eq!(streams[&7], b"end\n");
    let error: serde_json::Value = serde_json::from_slice(&streams[&1]).unwrap();
    assert_eq!(error["details"]["causes"][0]["message"], "3");
    server.finish().await;
}

async fn forward(handler: &str) {
    let mut server = Server::start().await;
    let config = pod(&server, "forward");
    let id = server.run(&config, handler).await;
    let script = "mkdir /tmp/www; echo page > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; echo up; sleep 1000";
    server.launch(&id, &config, shell("c", script)).await;
    server.speaks(&config, "c").await;
    for tunnel in [false, true] {
        let request = PortForwardRequest {
            pod_sandbox_id: id.clone(),
            port: vec![8080],
        };
        let url = server
            .client
            .port_forward(request)
            .await
            .unwrap()
            .into_inner()
            .url;
        let mut spdy = if tunnel {
            Spdy::tunnel(websocket(&url, "SPDY/3.1+portforward.k8s.io").await)
        } else {
            Spdy::dial(&url, "portforward.k8s.io").await
        };
        for (id, kind, port, request) in [
            (1, "error", "8080", "0"),
            (3, "data", "8080", "0"),
            (5, "error", "9", "1"),
            (7, "data", "9", "1"),
        ] {
            spdy.open(
                id,
                &[("streamtype", kind), ("port", port), ("requestid", request)],
            )
            .await;
        }
        spdy.send(3, b"GET / HTTP/1.0\r\n\r\n", true).await;
        spdy.send(7, b"", true).await;
        let streams = spdy.read_until_finished(&[1, 3, 5, 7]).await;
        assert!(
            streams[&3].ends_with(b"\r\n\r\npage\n"),
            "{:?}",
            String::from_utf8_lossy(&streams[&3])
        );
        assert_eq!(streams[&1], b"");
        let error = String::from_utf8_lossy(&streams[&5]).into_owned();
        assert!(
            error.contains("port 9") && error.contains("refused"),
            "{error}"
        );
    }
    server.finish().await;
}

/// As clients do that know no SPDY: a pair of channels for each port.
#[tokio::test(flavor = "multi_thread")]
async fn ports_over_websocket_channels() {
    let mut server = Server::start().await;
    let config = pod(&server, "channels");
    let id = server.run(&config, "runc").await;
    let script = "mkdir /tmp/www; echo page > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; echo up; sleep 1000";
    server.launch(&id, &config, shell("c", script)).await;
    server.speaks(&config, "c").await;
    let request = PortForwardRequest {
        pod_sandbox_id: id,
        port: vec![9, 8080],
    };
    let url = server
        .client
        .port_forward(request)
        .await
        .unwrap()
        .into_inner()
        .url;
    // As the official clients of Python and JavaScript offer them: the newest is not one of port-forward's.
    let offered = ["v5.channel.k8s.io, v4.channel.k8s.io", "v4.channel.k8s.io"];
    let mut socket = offered_websocket(&url, offered[0], offered[1]).await;
    let asked = [b"\x02".as_slice(), b"GET / HTTP/1.0\r\n\r\n"].concat();
    socket.send(Message::Binary(asked.into())).await.unwrap();
    let mut channels = std::collections::BTreeMap::<u8, Vec<u8>>::new();
    let whole = |channels: &std::collections::BTreeMap<u8, Vec<u8>>| {
        channels
            .get(&2)
            .is_some_and(|data| data.ends_with(b"page\n"))
            && channels.get(&1).is_some_and(|error| error.len() > 2)
    };
    while !whole(&channels) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), socket.next()).await;
        let Message::Binary(bytes) = next.unwrap().unwrap().unwrap() else {
            panic!("no data")
        };
        channels.entry(bytes[0]).or_default().extend(&bytes[1..]);
    }
    assert_eq!(channels[&0], 9u16.to_le_bytes());
    assert!(channels[&2].starts_with(&8080u16.to_le_bytes()));
    assert_eq!(channels[&3], 8080u16.to_le_bytes());
    let error = String::from_utf8_lossy(&channels[&1]).into_owned();
    assert!(error.contains("refused"), "{error}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_a_runc_pod() {
    forward("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_a_runsc_pod() {
    forward("runsc").await;
}
