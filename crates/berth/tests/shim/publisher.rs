//! Events, forwarded to containerd's events service. One after the other, each until it has arrived: whoever serves them
//! may be away for a while.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use tokio::sync::mpsc;
use ttrpc::asynchronous::Client;

use crate::message::stamp;

const AGAIN: Duration = Duration::from_millis(100);

/// Where events go; nowhere without `TTRPC_ADDRESS`.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    namespace: String,
    queue: Option<mpsc::UnboundedSender<Envelope>>,
}

impl Publisher {
    /// Connects; an address at which nothing listens is an error.
    pub(crate) async fn connect(namespace: &str) -> Result<Self, String> {
        let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
        let mut publisher = Self {
            namespace: namespace.to_owned(),
            queue: None,
        };
        if !address.is_empty() {
            let client = client(&address).await.map_err(|error| {
                format!(
                    "new event publisher: new containerd forwarder: new remote publisher: {error}"
                )
            })?;
            let (sender, queue) = mpsc::unbounded_channel();
            tokio::spawn(forward(address, client, queue));
            publisher.queue = Some(sender);
        }
        Ok(publisher)
    }

    /// Publishes an event of the module `containerd.events`.
    pub(crate) fn publish(&self, topic: &str, name: &str, event: &impl Message) {
        let envelope = Envelope {
            timestamp: MessageField::some(stamp(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(Any {
                type_url: format!("containerd.events.{name}"),
                value: event.write_to_bytes().unwrap_or_default(),
                ..Any::default()
            }),
            ..Envelope::default()
        };
        if let Some(queue) = &self.queue {
            let _ = queue.send(envelope);
        }
    }
}

async fn client(address: &str) -> Result<EventsClient, ttrpc::Error> {
    let client = Client::connect(&format!("unix://{address}")).await?;
    Ok(EventsClient::new(client))
}

async fn forward(
    address: String,
    client_at_start: EventsClient,
    mut queue: mpsc::UnboundedReceiver<Envelope>,
) {
    let mut connected = Some(client_at_start);
    while let Some(envelope) = queue.recv().await {
        let request = ForwardRequest {
            envelope: MessageField::some(envelope),
            ..ForwardRequest::default()
        };
        loop {
            if connected.is_none() {
                connected = client(&address).await.ok();
            }
            if let Some(events) = &connected {
                let context = ttrpc::context::with_duration(Duration::from_secs(10));
                match events.forward(context, &request).await {
                    Ok(_) => break,
                    // It was received, and is not wanted.
                    Err(ttrpc::Error::RpcStatus(status)) => {
                        eprintln!("an event was refused: {}", status.message());
                        break;
                    }
                    Err(_) => connected = None,
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
