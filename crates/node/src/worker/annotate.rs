//! `berth.dev/runtime`: which runtime really runs the pod, for people and for `kubectl get -o wide`.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tracing::debug;

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

    /// Writes the annotation, without keeping the pod waiting. A node may write a pod's status only,
    /// and annotations go with it.
    pub(super) fn annotate(&self, handler: &str) {
        let words = self.runtime_words(handler);
        let meta = &self.pod.metadata;
        let has = meta.annotations.as_ref().and_then(|a| a.get(RUNTIME));
        if has == Some(&words) {
            return;
        }
        let ns = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.agent.config.client.clone(), &ns);
        let patch = json!({"metadata": {"uid": meta.uid, "annotations": {RUNTIME: words}}});
        tokio::spawn(async move {
            let sent = api
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            if let Err(error) = sent {
                debug!(pod = %name, %error, "annotation not written");
            }
        });
    }
}
