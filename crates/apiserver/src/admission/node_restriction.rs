//! NodeRestriction: what nodes may write. The rules are `core`'s; here the objects that they need are looked up.

use berth_api::decode;
use berth_api::status::ApiError;
use berth_core::admission::node_restriction::{
    self as rules, Identity, TokenQuestion, Violation, identity,
};
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::CSIDriver;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Operation, forbidden};
use crate::attributes::{Action, Asked, Attributes, ResourceAttributes};
use crate::rest::{Call, meta};

/// The verb that lets a node ask for tokens of an audience that its pods don't name.
const REQUEST_AUDIENCE: &str = "request-serviceaccounts-token-audience";

/// A write of an object, or of a part of it; `object` is absent for deletions.
///
/// # Errors
/// `Forbidden` for what a node may not write; nothing for other users.
pub(super) fn admit(
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = node_of(call)? else {
        return Ok(());
    };
    let name = object.or(old).map_or(call.name(), meta::name);
    let checked = match (&*call.row.storage, call.subresource()) {
        ("core/pods", subresource) => pod(call, node, operation, subresource, object, old)?,
        ("core/nodes", _) => match (operation, object, old) {
            (Operation::Create, Some(new), _) => rules::create_node(node, &typed::<Node>(new)?),
            (Operation::Update, Some(new), Some(old)) => {
                rules::update_node(node, &typed::<Node>(old)?, &typed::<Node>(new)?)
            }
            _ => rules::modify_node(node, name),
        },
        ("coordination.k8s.io/leases", _) => rules::lease(node, call.namespace(), name),
        ("storage.k8s.io/csinodes", _) => rules::csi_node(node, name),
        _ => Ok(()),
    };
    checked.map_err(|violation| forbidden(call, name, violation.to_string()))
}

fn pod(
    call: &Call,
    node: &str,
    operation: Operation,
    subresource: &str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Result<(), Violation>, ApiError> {
    Ok(match (operation, subresource, object, old) {
        (Operation::Create, "", Some(new), _) => {
            let registered: Option<Node> = call.api.storage.read("core/nodes", "", node);
            rules::create_pod(node, &typed(new)?, registered.as_ref())
        }
        (Operation::Delete, "", _, Some(old)) => rules::delete_pod(node, &typed(old)?),
        (Operation::Delete, "eviction", _, Some(old)) => rules::evict_pod(node, &typed(old)?),
        (Operation::Update, "status", Some(new), Some(old)) => {
            rules::update_pod_status(node, &typed(old)?, &typed(new)?)
        }
        _ => Err(rules::pod_subresource(node, subresource)),
    })
}

/// A subresource of pods that is not a part of the object and that nodes have no business with (binding).
///
/// # Errors
/// `Forbidden` for nodes.
pub(super) fn refuse_subresource(call: &Call, name: &str) -> Result<(), ApiError> {
    match node_of(call)? {
        None => Ok(()),
        Some(node) => {
            let violation = rules::pod_subresource(node, "binding");
            Err(forbidden(call, name, violation.to_string()))
        }
    }
}

/// A request for a token of the service account that the path names.
///
/// # Errors
/// `Forbidden` for tokens that a node may not have.
pub(super) fn admit_token(call: &Call, spec: &TokenRequestSpec) -> Result<(), ApiError> {
    let Some(node) = node_of(call)? else {
        return Ok(());
    };
    let storage = &call.api.storage;
    let (namespace, account) = (call.namespace(), call.name());
    let bound = spec
        .bound_object_ref
        .as_ref()
        .and_then(|r| r.name.as_deref());
    let pod: Option<Pod> = bound.and_then(|name| storage.read("core/pods", namespace, name));
    let drivers: Vec<CSIDriver> = storage.read_all("storage.k8s.io/csidrivers", None);
    let may_request = |audience: &str| {
        let attributes = Attributes {
            user: &call.user,
            asked: Asked::Resource(ResourceAttributes {
                action: Action::Other(REQUEST_AUDIENCE),
                group: "",
                version: "",
                namespace,
                resource: audience,
                subresource: "",
                name: account,
                selection: None,
            }),
        };
        !audience.is_empty() && call.api.authorizer.authorize(&attributes).allowed()
    };
    rules::create_token(&TokenQuestion {
        node,
        account,
        request: spec,
        pod: pod.as_ref(),
        drivers: &drivers,
        may_request: &may_request,
    })
    .map_err(|violation| forbidden(call, account, violation.to_string()))
}

/// The node that makes the request.
fn node_of(call: &Call) -> Result<Option<&str>, ApiError> {
    match identity(&call.user.name, &call.user.groups) {
        Identity::Other => Ok(None),
        Identity::Node(node) => Ok(Some(node)),
        Identity::Unnamed => {
            let violation = Violation::Unnamed(call.user.name.clone());
            Err(forbidden(call, call.name(), violation.to_string()))
        }
    }
}

/// What can't be decoded can't be judged.
fn typed<T: DeserializeOwned>(object: &Value) -> Result<T, ApiError> {
    decode::from_value(object).map_err(|e| ApiError::Internal(e.to_string()))
}
