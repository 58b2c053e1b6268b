//! The change that failed last, kept in the installer's folder on the node.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_installer::failure::Failure;
use tracing::warn;

use super::Installer;

impl Installer {
    fn failure_path(&self) -> PathBuf {
        self.config.dir.join("failure.json")
    }

    /// Seconds since 1970.
    pub(super) fn now() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// The failure that an earlier run of this program has noted.
    pub(super) fn read_failure(&self) -> Option<Failure> {
        let path = self.failure_path();
        let text = match self.config.host.read_text(&path) {
            Ok(text) => text?,
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot tell which change failed before"
                );
                return None;
            }
        };
        let read = serde_json::from_str(&text);
        read.inspect_err(
            |error| warn!(%error, file = %path.display(), "what was noted of a change that failed can't be read"),
        )
        .ok()
    }

    /// Notes it, or that there is none any more.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if self.failed == failure {
            return;
        }
        let (path, host) = (self.failure_path(), &self.config.host);
        let noted = match &failure {
            Some(failure) => serde_json::to_vec(failure)
                .map_err(anyhow::Error::from)
                .and_then(|text| host.write(&path, &text, 0o600)),
            None => host
                .remove(&path)
                .inspect(|()| host.remove_folder(&self.config.dir)),
        };
        if let Err(error) = noted {
            warn!(
                error = format!("{error:#}"),
                "a new pod of the installer will not know of a change that failed"
            );
        }
        self.failed = failure;
    }
}
