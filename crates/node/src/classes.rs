//! RuntimeClasses: a watched cache, with a direct look at the API on a miss.

use std::collections::HashMap;
use std::sync::Arc;

use berth_supervise::Outage;
use futures::StreamExt;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// Handle of the cache.
#[derive(Clone)]
pub(crate) struct Classes {
    api: Api<RuntimeClass>,
    known: Arc<RwLock<HashMap<String, String>>>,
}

impl Classes {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
            known: Arc::default(),
        }
    }

    /// The handler of a class; `None` when there is no such class.
    pub(crate) async fn handler(&self, class: &str) -> Result<Option<String>, kube::Error> {
        if let Some(handler) = self.known.read().get(class) {
            return Ok(Some(handler.clone()));
        }
        let found = self.api.get_opt(class).await?;
        Ok(found.map(|c| c.handler))
    }

    /// Watches until `shutdown`.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        let stream = watcher(self.api.clone(), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listing: HashMap<String, String> = HashMap::new();
        let mut outage = Outage::new("cannot watch RuntimeClasses");
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.next() => event,
            };
            let name = |c: &RuntimeClass| c.metadata.name.clone().unwrap_or_default();
            if let Some(event) = &event {
                outage.watched(event);
            }
            match event {
                None => return,
                Some(Err(_)) => {}
                Some(Ok(watcher::Event::Init)) => listing.clear(),
                Some(Ok(watcher::Event::InitApply(c))) => {
                    listing.insert(name(&c), c.handler);
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    *self.known.write() = std::mem::take(&mut listing);
                }
                Some(Ok(watcher::Event::Apply(c))) => {
                    self.known.write().insert(name(&c), c.handler);
                }
                Some(Ok(watcher::Event::Delete(c))) => {
                    self.known.write().remove(&name(&c));
                }
            }
        }
    }
}
