//! RuntimeClasses: a watched cache, with a direct look at the API on a miss.

use std::collections::HashMap;
use std::sync::Arc;

use berth_core::isolation::{DECLARED, Isolation, level};
use berth_supervise::Outage;
use futures::StreamExt;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// What matters of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) handler: String,
    /// How far the class says that it keeps pods apart; the weakest where that can't be read.
    pub(crate) declared: Option<Isolation>,
}

impl Class {
    fn of(class: RuntimeClass) -> Self {
        Self {
            declared: level(&class.metadata, DECLARED).unwrap_or(Some(Isolation::Process)),
            handler: class.handler,
        }
    }
}

/// Handle of the cache.
#[derive(Clone)]
pub(crate) struct Classes {
    api: Api<RuntimeClass>,
    known: Arc<RwLock<HashMap<String, Class>>>,
}

impl Classes {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
            known: Arc::default(),
        }
    }

    /// A class; `None` when there is no such class.
    pub(crate) async fn find(&self, class: &str) -> Result<Option<Class>, kube::Error> {
        if let Some(class) = self.known.read().get(class) {
            return Ok(Some(class.clone()));
        }
        let found = self.api.get_opt(class).await?;
        Ok(found.map(Class::of))
    }

    /// Watches until `shutdown`.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        let stream = watcher(self.api.clone(), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listing: HashMap<String, Class> = HashMap::new();
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
                    listing.insert(name(&c), Class::of(c));
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    *self.known.write() = std::mem::take(&mut listing);
                }
                Some(Ok(watcher::Event::Apply(c))) => {
                    self.known.write().insert(name(&c), Class::of(c));
                }
                Some(Ok(watcher::Event::Delete(c))) => {
                    self.known.write().remove(&name(&c));
                }
            }
        }
    }
}
