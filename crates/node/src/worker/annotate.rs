//! `berth.dev/runtime`: which runtime really runs the pod, for people and for `kubectl get -o wide`.

use super::Worker;

/// The annotation's key.
pub(crate) const RUNTIME: &str = "berth.dev/runtime";

impl Worker {
    /// `runsc (/usr/bin/runsc, 20221219.0)`, as far as the runtime tells.
    pub(super) fn runtime_words(&self, handler: &str) -> String {
        let facts = self.agent.runtime.borrow();
        let (name, behind) = facts.describe(handler);
        let name = match name.as_str() {
            "" => "default",
            name => name,
        };
        match (behind.binary.as_str(), behind.version.as_str()) {
            ("", _) => name.to_owned(),
            (binary, "") => format!("{name} ({binary})"),
            (binary, version) => format!("{name} ({binary}, {version})"),
        }
    }
}
