//! All other groups.

use std::sync::Arc;

use berth_api::names;
use berth_core::meta;
use berth_core::rules::Rules;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::event_conversion;
use super::row::row;
use crate::printer;
use crate::registry::{Gvk, Resource, ResourceHandler, Scope};
use crate::strategy::definition::Definition;
use crate::strategy::plain::Plain;
use crate::strategy::typed::{Traits, Typed};
use crate::strategy::{event, runtime_class};

const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

fn review<T: DeserializeOwned + Serialize + 'static>(
    group: &str,
    kind: &str,
    plural: &str,
    scope: Scope,
) -> Resource {
    let strategy = Plain::<T>::new(meta::Scope::Cluster, names::dns1123_subdomain, &[]);
    row(group, &["v1"], kind, plural, scope, strategy).answered(ResourceHandler::Review)
}

fn rbac<T: Rules + DeserializeOwned + Serialize + 'static>(
    kind: &str,
    plural: &str,
    scope: Scope,
) -> Resource {
    let strategy = Typed::<T>::new(Traits::default());
    row(RBAC, &["v1"], kind, plural, scope, strategy)
}

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    let authentication = "authentication.k8s.io";
    let authorization = "authorization.k8s.io";
    vec![
        review::<SelfSubjectReview>(
            authentication,
            "SelfSubjectReview",
            "selfsubjectreviews",
            Scope::Cluster,
        ),
        review::<TokenReview>(
            authentication,
            "TokenReview",
            "tokenreviews",
            Scope::Cluster,
        ),
        review::<LocalSubjectAccessReview>(
            authorization,
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            Scope::Namespaced,
        ),
        review::<SelfSubjectAccessReview>(
            authorization,
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            Scope::Cluster,
        ),
        review::<SelfSubjectRulesReview>(
            authorization,
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
            Scope::Cluster,
        ),
        review::<SubjectAccessReview>(
            authorization,
            "SubjectAccessReview",
            "subjectaccessreviews",
            Scope::Cluster,
        ),
        rbac::<ClusterRoleBinding>("ClusterRoleBinding", "clusterrolebindings", Scope::Cluster)
            .printed(printer::binding()),
        rbac::<ClusterRole>("ClusterRole", "clusterroles", Scope::Cluster).printed(printer::role()),
        rbac::<RoleBinding>("RoleBinding", "rolebindings", Scope::Namespaced)
            .printed(printer::binding()),
        rbac::<Role>("Role", "roles", Scope::Namespaced).printed(printer::role()),
        row(
            "coordination.k8s.io",
            &["v1"],
            "Lease",
            "leases",
            Scope::Namespaced,
            Typed::<Lease>::new(Traits {
                create_on_update: true,
                conditional_update: true,
                ..Traits::default()
            }),
        )
        .printed(printer::lease()),
        row(
            "events.k8s.io",
            &["v1"],
            "Event",
            "events",
            Scope::Namespaced,
            Typed::<k8s_openapi::api::core::v1::Event>::new(Traits {
                create_on_update: true,
                field_labels: event::LABELS,
                decode: Some(event::decode_events),
                ..Traits::default()
            }),
        )
        .short(&["ev"])
        .stored_as("core/events", Gvk::new("", "v1", "Event"))
        .converted(event_conversion())
        .printed(printer::event()),
        row(
            "node.k8s.io",
            &["v1", "v1beta1", "v1alpha1"],
            "RuntimeClass",
            "runtimeclasses",
            Scope::Cluster,
            Typed::<RuntimeClass>::new(Traits {
                create_on_update: true,
                conditional_update: true,
                decode: Some(runtime_class::decode),
                ..Traits::default()
            }),
        )
        .converted(Arc::new(runtime_class::convert))
        .printed(printer::runtime_class()),
        row(
            "scheduling.k8s.io",
            &["v1"],
            "PriorityClass",
            "priorityclasses",
            Scope::Cluster,
            Typed::<PriorityClass>::new(Traits::default()),
        )
        .short(&["pc"])
        .printed(printer::priority_class()),
        // A stock kubelet is not ready before it has written its CSINode, whether or not there is a driver.
        row(
            STORAGE,
            &["v1"],
            "CSIDriver",
            "csidrivers",
            Scope::Cluster,
            Plain::<CSIDriver>::new(meta::Scope::Cluster, names::dns1123_subdomain, &[]),
        ),
        row(
            STORAGE,
            &["v1"],
            "CSINode",
            "csinodes",
            Scope::Cluster,
            Plain::<CSINode>::new(meta::Scope::Cluster, names::dns1123_subdomain, &[]),
        ),
        row(
            "apiextensions.k8s.io",
            &["v1"],
            "CustomResourceDefinition",
            "customresourcedefinitions",
            Scope::Cluster,
            Typed::<Definition>::new(Traits {
                generation: true,
                conditional_update: true,
                ..Traits::default()
            }),
        )
        .short(&["crd", "crds"])
        .category("api-extensions")
        .printed(printer::custom_resource_definition())
        .with_status(),
    ]
}
