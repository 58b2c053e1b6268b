//! What an API error says, in one line: the server's own words, without the Status around them.

use std::fmt;

use kube::runtime::watcher;
use tracing::debug;

use crate::{Chain, Outage};

/// A client's error.
pub struct Brief<'a>(pub &'a kube::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
            other => Chain(other).fmt(f),
        }
    }
}

/// A watch's error.
pub struct BriefWatch<'a>(pub &'a watcher::Error);

impl fmt::Display for BriefWatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            watcher::Error::InitialListFailed(error) => write!(f, "cannot list: {}", Brief(error)),
            watcher::Error::WatchStartFailed(error) => write!(f, "cannot watch: {}", Brief(error)),
            watcher::Error::WatchFailed(error) => {
                write!(f, "the watch broke off: {}", Brief(error))
            }
            watcher::Error::WatchError(status) => {
                write!(f, "the watch ended: {} ({})", status.message, status.code)
            }
            watcher::Error::NoResourceVersion => {
                f.write_str("the server's list has no resourceVersion")
            }
        }
    }
}

impl Outage {
    /// A watch reported this event.
    pub fn watched<K>(&mut self, event: &Result<watcher::Event<K>, watcher::Error>) {
        match event {
            // A watch that only begins says nothing of the server yet.
            Ok(watcher::Event::Init) => {}
            Ok(_) => self.works(),
            // History is kept for a while only; the watcher lists anew.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                debug!(error = status.message, "a watch is taken up again");
            }
            // The watcher itself waits, longer each time, before it goes on.
            Err(error) => {
                self.failed(BriefWatch(error));
            }
        }
    }
}
