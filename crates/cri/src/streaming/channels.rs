//! Port-forward over plain WebSocket channels, as clients without SPDY speak it.
//!
//! For each port that was asked for, in that order, there is a channel for data and one for errors. The first message
//! on each of them says the port, in two bytes, the low one first.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::copy;
use super::forward;
use super::http::Upgraded;
use super::pump::Sink;
use super::websocket::{QUEUE, Version, accept, payload};
use crate::engine::Shared;
use crate::error::chain;

/// Forwards until the client leaves.
pub(super) async fn serve(
    engine: Shared,
    sandbox: &str,
    ports: &[u16],
    io: Upgraded,
    version: Version,
) {
    let socket = accept(io).await;
    let (mut sender, mut receiver) = socket.split();
    let (messages, mut outgoing) = mpsc::channel::<Message>(QUEUE);
    let base64 = version.base64();
    let mut inputs = Vec::new();
    let mut pairs = forward::Pairs::default();
    for (number, port) in (0..).step_by(2).zip(ports) {
        let sink = |channel| Sink::WebSocket {
            channel,
            base64,
            messages: messages.clone(),
        };
        let (input, bytes) = mpsc::channel(QUEUE);
        inputs.push(input);
        let (data, error) = (sink(number), sink(number + 1));
        let work = one(
            engine.clone(),
            sandbox.to_owned(),
            *port,
            bytes,
            data,
            error,
        );
        pairs.begin(work);
    }
    drop(messages);
    let writing = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
        let _ = sender.close().await;
    }));
    while let Some(Ok(message)) = receiver.next().await {
        if matches!(message, Message::Close(_)) {
            break;
        }
        let Some((channel, bytes)) = payload(message, base64) else {
            continue;
        };
        // What comes on an error channel means nothing.
        if channel % 2 == 0
            && !bytes.is_empty()
            && let Some(input) = inputs.get(usize::from(channel / 2))
        {
            // A pod that has hung up does not listen.
            let _ = input.send(bytes).await;
        }
    }
    drop(inputs);
    pairs.finish().await;
    let _ = writing.await;
}

/// One connection to the pod.
async fn one(
    engine: Shared,
    sandbox: String,
    port: u16,
    mut input: mpsc::Receiver<Bytes>,
    mut data: Sink,
    mut error: Sink,
) {
    let name = Bytes::copy_from_slice(&port.to_le_bytes());
    if data.write(name.clone()).await.is_err() || error.write(name).await.is_err() {
        return;
    }
    match forward::connect(&engine, &sandbox, port).await {
        Ok(socket) => {
            let _ = socket.set_nodelay(true);
            let (from_pod, to_pod) = socket.into_split();
            tokio::join!(
                copy::output(Some(from_pod), Some(data)),
                copy::input(&mut input, to_pod),
            );
        }
        Err(failed) => {
            let text = format!(
                "error forwarding port {port} to pod sandbox {sandbox}: {}",
                chain(&failed)
            );
            let _ = error.write(Bytes::from(text)).await;
        }
    }
}
