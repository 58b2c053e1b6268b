//! Clients on gRPC's C core, which send the socket's path where HTTP has the host.

use std::path::Path;

use berth_testkit::wait_for_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{LIMIT, World};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0, length[0], length[1], kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// The kind of the first frame that answers a call with an empty message.
async fn answer(socket: &Path, method: &str) -> std::io::Result<u8> {
    let authority = socket.display().to_string().replace('/', "%2F");
    let block = [
        // POST, http, and names of the static table.
        &[0x83, 0x86, 0x44][..],
        &text(method),
        &[0x41],
        &text(&authority),
        &[0x5f],
        &text("application/grpc"),
        &[0x40],
        &text("te"),
        &text("trailers"),
    ]
    .concat();
    let mut stream = UnixStream::connect(socket).await?;
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(HEADERS, 0x4, 1, &block),
        frame(0, 0x1, 1, &[0; 5]),
    ]
    .concat();
    stream.write_all(&request).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await?;
        if head[8] == 1 && matches!(head[3], HEADERS | RST_STREAM) {
            return Ok(head[3]);
        }
    }
}

#[tokio::test]
async fn a_socket_s_path_as_authority_is_accepted() {
    let world = World::started().await;
    for (socket, method) in [
        (
            "device-plugins/kubelet.sock",
            "/v1beta1.Registration/Register",
        ),
        ("pod-resources/kubelet.sock", "/v1.PodResourcesLister/List"),
    ] {
        let path = world.dir.path().join("node").join(socket);
        let kind = wait_for_async(socket, LIMIT, || answer(&path, method)).await;
        assert_eq!(kind, HEADERS, "{socket}");
    }
}
