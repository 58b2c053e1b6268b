//! The row of a kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::registry::{Gvk, Resource, ResourceHandler, Subresource, SubresourceHandler};
use crate::strategy::typed::TypedKind;

/// Verbs of what is stored.
const STORED: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The row of `K`.
pub(crate) fn row<K: Kind>() -> Resource {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    let version = K::VERSIONS.first().copied().unwrap_or("v1");
    let shown_group = if K::GROUP.is_empty() {
        "core"
    } else {
        K::GROUP
    };
    let (storage, storage_gvk) = match K::stored_as() {
        Some((storage, gvk)) => (storage.to_owned(), gvk),
        None => (
            format!("{shown_group}/{}", K::PLURAL),
            Gvk::new(K::GROUP, version, K::KIND),
        ),
    };
    let handler = K::handler();
    Resource {
        group: K::GROUP.to_owned(),
        versions: owned(K::VERSIONS),
        storage_version: version.to_owned(),
        kind: K::KIND.to_owned(),
        list_kind: format!("{}List", K::KIND),
        plural: K::PLURAL.to_owned(),
        singular: K::KIND.to_lowercase(),
        short_names: owned(K::SHORT_NAMES),
        categories: owned(K::CATEGORIES),
        scope: K::SCOPE,
        verbs: match handler {
            ResourceHandler::Stored => STORED.to_vec(),
            ResourceHandler::Review(_) | ResourceHandler::Binding => vec!["create"],
            ResourceHandler::ReadOnly | ResourceHandler::Measured(_) => vec!["get", "list"],
        },
        subresources: K::subresources(),
        handler,
        storage,
        storage_gvk,
        strategy: Arc::new(TypedKind::<K>::new()),
        printer: K::printer(),
        convert: K::convert(),
        converter: None,
        schemas: BTreeMap::new(),
    }
}

impl Subresource {
    /// A subresource of a built-in kind.
    pub(super) fn new(
        name: &'static str,
        gvk: Gvk,
        verbs: &'static [&'static str],
        handler: SubresourceHandler,
    ) -> Self {
        Self {
            name,
            gvk,
            verbs,
            handler,
        }
    }

    /// The subresource `status` of a kind.
    pub(super) fn status<T: k8s_openapi::Resource>() -> Self {
        Self::new(
            "status",
            Gvk::of::<T>(),
            super::READ_WRITE,
            SubresourceHandler::Status,
        )
    }
}

impl Subresource {
    /// The subresource `scale` of a kind with replicas.
    pub(crate) fn scale() -> Self {
        Self::new(
            "scale",
            Gvk::of::<k8s_openapi::api::autoscaling::v1::Scale>(),
            super::READ_WRITE,
            SubresourceHandler::Scale,
        )
    }
}

impl Gvk {
    /// Group, version and kind of a type.
    pub(super) fn of<T: k8s_openapi::Resource>() -> Self {
        Self::new(T::GROUP, T::VERSION, T::KIND)
    }
}
