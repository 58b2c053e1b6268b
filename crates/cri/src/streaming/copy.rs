//! Copying between a process and its client.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::pump::Sink;

const CHUNK: usize = 32 * 1024;

/// Copies output to its end. A client that is gone must not stop the process: what it writes
/// then is read and dropped.
pub(super) async fn output(reader: Option<impl AsyncRead + Unpin>, sink: Option<Sink>) {
    let mut sink = sink;
    if let Some(mut reader) = reader {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while let Ok(1..) = reader.read_buf(&mut buffer).await {
            let bytes = buffer.split().freeze();
            if let Some(open) = &mut sink
                && open.write(bytes).await.is_err()
            {
                sink = None;
            }
            buffer.reserve(CHUNK);
        }
    }
    if let Some(sink) = sink {
        sink.finish().await;
    }
}

/// Copies input until the client's end of file.
pub(super) async fn input(from: &mut mpsc::Receiver<Bytes>, mut to: impl AsyncWrite + Unpin) {
    while let Some(bytes) = from.recv().await {
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
