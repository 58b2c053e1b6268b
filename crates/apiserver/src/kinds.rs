//! The kinds that every berth serves: one file each, which says all of a kind that is not a pure rule in `core` or a
//! fact of the stock API's schema. [`Kind`] is what a file must say; [`rows`] has a line for each.

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

use berth_api::status::ApiError;
use berth_core::rbac::escalation::Grant;
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
use serde_json::Value;

use crate::object::Typed;
use crate::printer::Printer;
use crate::registry::{Convert, Gvk, Resource, ResourceHandler, Scope, Subresource};
use crate::storage::Storage;
use crate::strategy::typed::decode_as;
use crate::strategy::{Cluster, FieldLabel};
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

/// Whether what `metadata.generation` counts differs: new, old.
pub(crate) type MovedOn<T> = fn(&T, &T) -> bool;

/// How objects of a kind are updated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Updates {
    /// A PUT to a name that does not exist creates it.
    pub(crate) create: bool,
    /// A PUT without a resourceVersion is accepted.
    pub(crate) unconditional: bool,
}

/// How objects of a kind are deleted.
pub(crate) enum Deletion<T> {
    /// At once, unless finalizers keep them.
    Immediate,
    /// After a grace period.
    Graceful {
        /// Its seconds, when so many (or none) are asked for.
        seconds: fn(&T, Option<i64>) -> i64,
    },
    /// When finalizers of their own, besides those in their metadata, are gone.
    Finalized {
        /// Whether there are any.
        pending: fn(&T) -> bool,
        /// Shows that the deletion has begun.
        mark: fn(&mut T),
    },
}

/// A kind of this server's own.
pub(crate) trait Kind: 'static {
    /// What its objects are, in the storage version.
    type Object: Typed;

    /// API group; empty for the core group.
    const GROUP: &'static str = <Self::Object as k8s_openapi::Resource>::GROUP;
    /// Kind.
    const KIND: &'static str = <Self::Object as k8s_openapi::Resource>::KIND;
    /// Plural name, as in paths.
    const PLURAL: &'static str = <Self::Object as k8s_openapi::Resource>::URL_PATH_SEGMENT;
    /// Served versions, the preferred one first, which is also the stored one.
    const VERSIONS: &'static [&'static str];
    /// Whether objects live in a namespace.
    const SCOPE: Scope;
    /// Short names that kubectl takes.
    const SHORT_NAMES: &'static [&'static str];
    /// Categories such as `all`.
    const CATEGORIES: &'static [&'static str];
    /// Field labels that selectors may name, beside `metadata.name` and `metadata.namespace`.
    const FIELD_LABELS: &'static [FieldLabel];
    /// What `metadata.generation` counts; none: the kind has none.
    const GENERATION: Option<MovedOn<Self::Object>>;
    /// How objects are updated.
    const UPDATES: Updates;
    /// How objects are deleted.
    const DELETION: Deletion<Self::Object>;

    /// Subresources.
    fn subresources() -> Vec<Subresource>;

    /// Printed columns.
    fn printer() -> Printer;

    /// What answers the resource's own path.
    fn handler() -> ResourceHandler {
        ResourceHandler::Stored
    }

    /// Storage name, group and version when another kind owns the objects.
    fn stored_as() -> Option<(&'static str, Gvk)> {
        None
    }

    /// Conversion of stored objects to the served versions; none when they look alike.
    fn convert() -> Option<Convert> {
        None
    }

    /// Reads an object in one of the served versions; fields that the version lacks are pushed to `unknown`.
    ///
    /// # Errors
    /// `BadRequest` for what does not fit the type.
    fn decode(
        _version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Self::Object, ApiError> {
        decode_as(&object, unknown)
    }

    /// What the creator of an object is told besides.
    ///
    /// # Errors
    /// When what it depends on cannot be read.
    fn warnings(_new: &Self::Object, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    /// What an object would give to somebody who might not have it, of more than it gave before.
    fn grant<'a>(_new: &'a Self::Object, _old: Option<&'a Self::Object>) -> Option<Grant<'a>> {
        None
    }

    /// Columns for kubectl, which shows the wide ones only when asked to; none: the stock columns.
    fn wide_printer(_storage: &Storage) -> Option<Printer> {
        None
    }
}
