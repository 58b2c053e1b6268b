//! The core group.

use std::sync::Arc;

use berth_api::names;
use berth_core::meta;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, Pod, ResourceQuota, Secret, Service,
    ServiceAccount,
};

use super::row::row;
use crate::printer;
use crate::registry::{Gvk, Resource, ResourceHandler, Scope, SubresourceHandler};
use crate::strategy::FieldLabel;
use crate::strategy::event;
use crate::strategy::plain::Plain;
use crate::strategy::typed::{Traits, Typed};

const POD_LABELS: &[FieldLabel] = &[
    FieldLabel {
        label: "spec.nodeName",
        pointer: "/spec/nodeName",
        absent: "",
    },
    FieldLabel {
        label: "spec.restartPolicy",
        pointer: "/spec/restartPolicy",
        absent: "",
    },
    FieldLabel {
        label: "spec.schedulerName",
        pointer: "/spec/schedulerName",
        absent: "",
    },
    FieldLabel {
        label: "spec.serviceAccountName",
        pointer: "/spec/serviceAccountName",
        absent: "",
    },
    FieldLabel {
        label: "spec.hostNetwork",
        pointer: "/spec/hostNetwork",
        absent: "false",
    },
    FieldLabel {
        label: "status.phase",
        pointer: "/status/phase",
        absent: "",
    },
    FieldLabel {
        label: "status.podIP",
        pointer: "/status/podIP",
        absent: "",
    },
    FieldLabel {
        label: "status.podIPs",
        pointer: "/status/podIP",
        absent: "",
    },
    FieldLabel {
        label: "status.nominatedNodeName",
        pointer: "/status/nominatedNodeName",
        absent: "",
    },
];
const NODE_LABELS: &[FieldLabel] = &[FieldLabel {
    label: "spec.unschedulable",
    pointer: "/spec/unschedulable",
    absent: "false",
}];
const NAMESPACE_LABELS: &[FieldLabel] = &[
    FieldLabel {
        label: "status.phase",
        pointer: "/status/phase",
        absent: "",
    },
    FieldLabel {
        label: "name",
        pointer: "/metadata/name",
        absent: "",
    },
];
const SECRET_LABELS: &[FieldLabel] = &[FieldLabel {
    label: "type",
    pointer: "/type",
    absent: "",
}];
const SERVICE_LABELS: &[FieldLabel] = &[
    FieldLabel {
        label: "spec.clusterIP",
        pointer: "/spec/clusterIP",
        absent: "",
    },
    FieldLabel {
        label: "spec.type",
        pointer: "/spec/type",
        absent: "",
    },
];

const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

fn core(kind: &str) -> Gvk {
    Gvk::new("", "v1", kind)
}

fn labels(field_labels: &'static [FieldLabel]) -> Traits {
    Traits {
        field_labels,
        ..Traits::default()
    }
}

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    let namespaced = meta::Scope::Namespaced;
    vec![
        row(
            "",
            &["v1"],
            "Binding",
            "bindings",
            Scope::Namespaced,
            Plain::<k8s_openapi::api::core::v1::Binding>::new(
                namespaced,
                names::dns1123_subdomain,
                &[],
            ),
        )
        .answered(ResourceHandler::Binding),
        row(
            "",
            &["v1"],
            "ConfigMap",
            "configmaps",
            Scope::Namespaced,
            Typed::<ConfigMap>::new(Traits::default()),
        )
        .short(&["cm"])
        .printed(printer::config_map()),
        row(
            "",
            &["v1"],
            "Endpoints",
            "endpoints",
            Scope::Namespaced,
            Plain::<Endpoints>::new(namespaced, names::dns1123_subdomain, &[]),
        )
        .short(&["ep"]),
        row(
            "",
            &["v1"],
            "Event",
            "events",
            Scope::Namespaced,
            Typed::<Event>::new(Traits {
                create_on_update: true,
                field_labels: event::LABELS,
                ..Traits::default()
            }),
        )
        .short(&["ev"])
        .printed(printer::event()),
        row(
            "",
            &["v1"],
            "LimitRange",
            "limitranges",
            Scope::Namespaced,
            Typed::<LimitRange>::new(Traits::default()),
        )
        .short(&["limits"])
        .printed(printer::limit_range()),
        row(
            "",
            &["v1"],
            "Namespace",
            "namespaces",
            Scope::Cluster,
            Typed::<Namespace>::new(labels(NAMESPACE_LABELS)),
        )
        .short(&["ns"])
        .printed(printer::namespace())
        .sub(
            "finalize",
            core("Namespace"),
            &["update"],
            SubresourceHandler::Finalize,
        )
        .with_status(),
        row(
            "",
            &["v1"],
            "Node",
            "nodes",
            Scope::Cluster,
            Typed::<Node>::new(labels(NODE_LABELS)),
        )
        .short(&["no"])
        .printed(printer::node())
        .sub(
            "proxy",
            core("NodeProxyOptions"),
            PROXY,
            SubresourceHandler::Connect,
        )
        .with_status(),
        row(
            "",
            &["v1"],
            "Pod",
            "pods",
            Scope::Namespaced,
            Typed::<Pod>::new(Traits {
                generation: true,
                ..labels(POD_LABELS)
            }),
        )
        .short(&["po"])
        .category("all")
        .printed(printer::pod())
        .sub(
            "attach",
            core("PodAttachOptions"),
            CONNECT,
            SubresourceHandler::Connect,
        )
        .sub(
            "binding",
            core("Binding"),
            CREATE,
            SubresourceHandler::Binding,
        )
        .sub(
            "ephemeralcontainers",
            core("Pod"),
            READ_WRITE,
            SubresourceHandler::EphemeralContainers,
        )
        .sub(
            "eviction",
            Gvk::new("policy", "v1", "Eviction"),
            CREATE,
            SubresourceHandler::Eviction,
        )
        .sub(
            "exec",
            core("PodExecOptions"),
            CONNECT,
            SubresourceHandler::Connect,
        )
        .sub("log", core("Pod"), &["get"], SubresourceHandler::Connect)
        .sub(
            "portforward",
            core("PodPortForwardOptions"),
            CONNECT,
            SubresourceHandler::Connect,
        )
        .sub(
            "proxy",
            core("PodProxyOptions"),
            PROXY,
            SubresourceHandler::Connect,
        )
        .sub(
            "resize",
            core("Pod"),
            READ_WRITE,
            SubresourceHandler::Resize,
        )
        .with_status(),
        row(
            "",
            &["v1"],
            "ResourceQuota",
            "resourcequotas",
            Scope::Namespaced,
            Typed::<ResourceQuota>::new(Traits::default()),
        )
        .short(&["quota"])
        .printed(printer::resource_quota())
        .with_status(),
        row(
            "",
            &["v1"],
            "Secret",
            "secrets",
            Scope::Namespaced,
            Typed::<Secret>::new(labels(SECRET_LABELS)),
        )
        .printed(printer::secret()),
        row(
            "",
            &["v1"],
            "ServiceAccount",
            "serviceaccounts",
            Scope::Namespaced,
            Typed::<ServiceAccount>::new(Traits {
                conditional_update: true,
                ..Traits::default()
            }),
        )
        .short(&["sa"])
        .printed(printer::service_account())
        .sub(
            "token",
            Gvk::new("authentication.k8s.io", "v1", "TokenRequest"),
            CREATE,
            SubresourceHandler::Token,
        ),
        row(
            "",
            &["v1"],
            "Service",
            "services",
            Scope::Namespaced,
            Plain::<Service>::new(namespaced, names::dns1035_label, SERVICE_LABELS),
        )
        .short(&["svc"])
        .category("all")
        .printed(printer::service())
        .with_status(),
    ]
}

/// `Convert` of events between their two groups.
pub(super) fn event_conversion() -> crate::registry::Convert {
    Arc::new(event::convert)
}
