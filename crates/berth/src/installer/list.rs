//! The list of handlers in its ConfigMap, followed.

use berth_installer::wanted::{self, Handler};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The list, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) enum List {
    /// Not yet.
    #[default]
    Unknown,
    /// The ConfigMap is not there, or can't be understood: nothing is to be changed.
    Unusable(String),
    /// The handlers.
    Handlers(Vec<Handler>),
}

impl List {
    pub(crate) fn of(map: Option<&ConfigMap>, name: &str) -> Self {
        let Some(map) = map else {
            return Self::Unusable(format!("there is no ConfigMap {name:?}"));
        };
        let text = map.data.as_ref().and_then(|data| data.get(wanted::KEY));
        let Some(text) = text else {
            return Self::Unusable(format!("ConfigMap {name:?} has no {}", wanted::KEY));
        };
        match wanted::parse(text) {
            Ok(handlers) => Self::Handlers(handlers),
            Err(error) => Self::Unusable(format!("ConfigMap {name:?}: {error}")),
        }
    }
}

/// Follows a ConfigMap until `shutdown`.
pub(crate) async fn follow(
    api: Api<ConfigMap>,
    name: String,
    list: watch::Sender<List>,
    shutdown: CancellationToken,
) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut is_there = false;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(watcher::Event::Apply(map) | watcher::Event::InitApply(map))) => {
                is_there = true;
                list.send_replace(List::of(Some(&map), &name));
            }
            Ok(Some(watcher::Event::Init)) => is_there = false,
            Ok(Some(watcher::Event::Delete(_))) => {
                list.send_replace(List::of(None, &name));
            }
            Ok(Some(watcher::Event::InitDone)) if !is_there => {
                list.send_replace(List::of(None, &name));
            }
            Ok(Some(watcher::Event::InitDone)) => {}
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "cannot follow the list of handlers; what was known of it holds")
            }
        }
    }
}
