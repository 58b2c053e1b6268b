//! A session with a client that may send anything: for fuzzing.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// No input is so long that a session may take longer once its client is gone.
const LIMIT: Duration = Duration::from_secs(20);

/// The frames that open streams of these types, as a client sends them.
#[cfg(test)]
pub(crate) fn opening(streams: &[(u32, &str)]) -> Vec<u8> {
    let mut headers = super::headers::Writer::new().unwrap();
    let mut wire = Vec::new();
    for (id, kind) in streams {
        let block = headers.write(&[("streamtype", kind)]).unwrap();
        let length = u32::try_from(10 + block.len()).unwrap().to_be_bytes();
        wire.extend_from_slice(&[0x80, 3, 0, 1, 0]);
        wire.extend_from_slice(&length[1..]);
        wire.extend_from_slice(&id.to_be_bytes());
        wire.extend_from_slice(&[0; 6]);
        wire.extend_from_slice(&block);
    }
    wire
}

/// Sends bytes to a session, whose streams are read and answered.
///
/// # Panics
/// The session goes on when the client is gone.
pub(crate) fn speak_anything(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let Ok(runtime) = runtime else {
        return;
    };
    let ended = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let mut session = super::accept(server);
        let (mut answers, mut requests) = tokio::io::split(client);
        let reader = tokio::spawn(async move {
            let mut sink = [0; 4096];
            while matches!(answers.read(&mut sink).await, Ok(1..)) {}
        });
        let serve = async {
            while let Some(mut stream) = session.next().await {
                let _ = stream.header("streamtype").map(str::len);
                tokio::spawn(async move {
                    while let Some(bytes) = stream.bytes.recv().await {
                        if stream.writer.write(bytes).await.is_err() {
                            return;
                        }
                    }
                    let _ = stream.writer.write(Bytes::from_static(b"end")).await;
                    let _ = stream.writer.finish().await;
                });
            }
        };
        let speak = async {
            let _ = requests.write_all(data).await;
            let _ = requests.shutdown().await;
        };
        let ended = tokio::time::timeout(LIMIT, async {
            tokio::join!(serve, speak);
        })
        .await;
        reader.abort();
        ended.is_ok()
    });
    assert!(ended, "the session goes on without its client");
}
