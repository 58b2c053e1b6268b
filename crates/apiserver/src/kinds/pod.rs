//! core/v1 Pod.

use berth_api::status::ApiError;
use berth_rules::pod;
use berth_rules::warnings;
use k8s_openapi::api::core::v1::{Binding, Pod};
use k8s_openapi::api::policy::v1::Eviction;

mod printer;

use super::{CONNECT, CREATE, PROXY, READ_WRITE};
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::Printer;
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};
use crate::strategy::Cluster;

impl Kind for Pod {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const FIELD_LABELS: &'static [FieldLabel] = &[
        FieldLabel::new("spec.nodeName", "/spec/nodeName"),
        FieldLabel::new("spec.restartPolicy", "/spec/restartPolicy"),
        FieldLabel::new("spec.schedulerName", "/spec/schedulerName"),
        FieldLabel::new("spec.serviceAccountName", "/spec/serviceAccountName"),
        FieldLabel::or("spec.hostNetwork", "/spec/hostNetwork", "false"),
        FieldLabel::new("status.phase", "/status/phase"),
        FieldLabel::new("status.podIP", "/status/podIP"),
        FieldLabel::new("status.podIPs", "/status/podIP"),
        FieldLabel::new("status.nominatedNodeName", "/status/nominatedNodeName"),
    ];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Graceful {
        seconds: grace_seconds,
    };
    const SHOWS_DELETED: bool = true;

    fn subresources() -> Vec<Subresource> {
        let connect = |name, kind, verbs| {
            let gvk = Gvk::new("", "v1", kind);
            Subresource::new(name, gvk, verbs, SubresourceHandler::Connect)
        };
        vec![
            connect("attach", "PodAttachOptions", CONNECT),
            Subresource::new(
                "binding",
                Gvk::of::<Binding>(),
                CREATE,
                SubresourceHandler::Binding,
            ),
            Subresource::new(
                pod::EPHEMERAL_CONTAINERS,
                Gvk::of::<Self>(),
                READ_WRITE,
                SubresourceHandler::EphemeralContainers,
            ),
            Subresource::new(
                "eviction",
                Gvk::of::<Eviction>(),
                CREATE,
                SubresourceHandler::Eviction,
            ),
            connect("exec", "PodExecOptions", CONNECT),
            connect("log", "Pod", &["get"]),
            connect("portforward", "PodPortForwardOptions", CONNECT),
            connect("proxy", "PodProxyOptions", PROXY),
            Subresource::new(
                pod::RESIZE,
                Gvk::of::<Self>(),
                READ_WRITE,
                SubresourceHandler::Resize,
            ),
            Subresource::status::<Self>(),
        ]
    }

    fn printer() -> Printer {
        printer::pod()
    }

    /// The stock server's warnings; what will not run as the nodes are now is told by admission.
    fn warnings(pod: &Self, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(warnings::of_pod(pod))
    }
}

/// Grace of pods that name none.
const GRACE_SECONDS: i64 = 30;

/// A pod that no node has, or that has ended, goes at once.
fn grace_seconds(pod: &Pod, wanted: Option<i64>) -> i64 {
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|s| s.node_name.as_deref()).unwrap_or("");
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("");
    if node.is_empty() || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    match wanted.or(spec.and_then(|s| s.termination_grace_period_seconds)) {
        None => GRACE_SECONDS,
        // Negative ones come from objects that validation let pass long ago.
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
    }
}
