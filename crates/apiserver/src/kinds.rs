//! The kinds that every berth serves: one file each, which says all of a kind that is not a pure rule in `core` or a
//! fact of the stock API's schema. [`crate::kind::Kind`] is what a file must say; [`rows`] has a line for each.

mod binding;
mod cluster_role;
mod cluster_role_binding;
mod config_map;
mod csi_driver;
mod csi_node;
mod custom_resource_definition;
mod endpoints;
mod event;
mod lease;
mod limit_range;
mod namespace;
mod node;
mod pod;
mod priority_class;
mod resource_quota;
mod reviews;
mod role;
mod role_binding;
mod row;
mod runtime_class;
mod secret;
mod service;
mod service_account;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Binding, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, Pod, ResourceQuota, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};

use crate::registry::Resource;
use custom_resource_definition::Definition;
use event::EventsEvent;
use row::row;

/// Verbs of subresources that show and change a part of the object.
const READ_WRITE: &[&str] = &["get", "patch", "update"];
/// Verbs of subresources that are created.
const CREATE: &[&str] = &["create"];
/// Verbs of subresources that connect to a container.
const CONNECT: &[&str] = &["create", "get"];
/// Verbs of subresources that pass any request on.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// All built-in rows, in the order that discovery lists them.
#[must_use]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        row::<Binding>(),
        row::<ConfigMap>(),
        row::<Endpoints>(),
        row::<Event>(),
        row::<LimitRange>(),
        row::<Namespace>(),
        row::<Node>(),
        row::<Pod>(),
        row::<ResourceQuota>(),
        row::<Secret>(),
        row::<ServiceAccount>(),
        row::<Service>(),
        row::<SelfSubjectReview>(),
        row::<TokenReview>(),
        row::<LocalSubjectAccessReview>(),
        row::<SelfSubjectAccessReview>(),
        row::<SelfSubjectRulesReview>(),
        row::<SubjectAccessReview>(),
        row::<ClusterRoleBinding>(),
        row::<ClusterRole>(),
        row::<RoleBinding>(),
        row::<Role>(),
        row::<Lease>(),
        row::<EventsEvent>(),
        row::<RuntimeClass>(),
        row::<PriorityClass>(),
        row::<CSIDriver>(),
        row::<CSINode>(),
        row::<Definition>(),
    ]
}
