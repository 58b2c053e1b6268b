//! SPDY/3.1 as Kubernetes' streaming uses it: the client opens streams, the server answers each
//! with SYN_REPLY, bytes flow, FIN ends a direction.
//!
//! No flow control and no priorities: the one client in the field (spdystream) has neither, and a
//! slow reader holds up its connection. Tasks: a reader and a writer for each connection.

#[cfg(any(test, feature = "fuzzing"))]
mod anything;
mod frame;
mod headers;
mod session;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::pump::{self, Remote, Sink};
use super::tokens::Streams;
use super::websocket::Size;

#[cfg(test)]
pub(crate) use anything::opening;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use anything::speak_anything;
pub(super) use session::{Closer, Incoming, Session, StreamWriter, accept};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

/// Gathers the streams of an exec or attach.
pub(super) async fn remote(
    mut session: Session,
    protocol: &'static str,
    streams: Streams,
) -> Result<Remote, &'static str> {
    let resizable = streams.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let stderr = streams.stderr && !streams.tty;
    let wanted = 1
        + usize::from(streams.stdin)
        + usize::from(streams.stdout)
        + usize::from(stderr)
        + usize::from(resizable);
    let mut found: [Option<Incoming>; 5] = Default::default();
    let gather = async {
        let mut count = 0;
        while count < wanted {
            let stream = session
                .next()
                .await
                .ok_or("the client left before it opened its streams")?;
            let slot = match stream.header("streamtype") {
                Some("error") => 0,
                Some("stdin") => 1,
                Some("stdout") => 2,
                Some("stderr") => 3,
                Some("resize") => 4,
                _ => return Err("a stream of unknown type"),
            };
            if let Some(place) = found.get_mut(slot)
                && place.replace(stream).is_none()
            {
                count += 1;
            }
        }
        Ok(())
    };
    tokio::time::timeout(OPENING, gather)
        .await
        .map_err(|_| "the client did not open its streams in time")??;
    let [error, stdin, stdout, stderr, resize] = found;
    let sink = |stream: Option<Incoming>| stream.map(|stream| Sink::Spdy(stream.writer));
    let error = sink(error).ok_or("no error stream")?;
    Ok(Remote {
        stdin: stdin.map(|stream| stream.bytes),
        resize: resize.map(|stream| sizes(stream.bytes)),
        stdout: sink(stdout),
        stderr: sink(stderr),
        error,
        error_as_status: protocol == "v4.channel.k8s.io",
        closer: pump::Closer::Spdy(session.into_closer()),
    })
}

/// Reads sizes, one JSON value after the other, from a stream cut anywhere.
fn sizes(mut bytes: mpsc::Receiver<Bytes>) -> mpsc::Receiver<(u16, u16)> {
    const LIMIT: usize = 64 * 1024;
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut buffer = Vec::new();
        while let Some(chunk) = bytes.recv().await {
            buffer.extend_from_slice(&chunk);
            let mut values = serde_json::Deserializer::from_slice(&buffer).into_iter::<Size>();
            let mut read = Vec::new();
            while let Some(Ok(size)) = values.next() {
                read.push((size.width, size.height));
            }
            let done = values.byte_offset();
            buffer.drain(..done);
            for size in read {
                if sender.send(size).await.is_err() {
                    return;
                }
            }
            if buffer.len() > LIMIT {
                return;
            }
        }
    });
    receiver
}
