//! NodeRestriction: what nodes may write. The rules are `core`'s; here the objects that they need are looked up.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::admission::node_restriction::{
    self as rules, Identity, TokenQuestion, Violation, identity,
};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::CSIDriver;

use super::{Attributes, NODES, Operation, Parts, Plugin};
use crate::attributes::{self, Action, Asked, ResourceAttributes};
use crate::authz::Authorizer;
use crate::object::Object;
use crate::storage::Storage;

const PODS: &str = "core/pods";
const CSI_DRIVERS: &str = "storage.k8s.io/csidrivers";
/// The verb that lets a node ask for tokens of an audience that its pods don't name.
const REQUEST_AUDIENCE: &str = "request-serviceaccounts-token-audience";

pub(super) struct NodeRestriction {
    storage: Arc<Storage>,
    authorizer: Arc<Authorizer>,
}

impl NodeRestriction {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            authorizer: Arc::clone(&parts.authorizer),
        }
    }

    fn pod(
        &self,
        node: &str,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Result<(), Violation>, ApiError> {
        let (operation, subresource) = (attributes.operation, attributes.subresource);
        Ok(match (operation, subresource, object, attributes.old) {
            (Operation::Create, "", Some(new), _) => {
                let registered: Option<Node> = self.storage.read(NODES, "", node)?;
                rules::create_pod(node, new.typed()?, registered.as_ref())
            }
            (Operation::Delete, "", _, Some(old)) => rules::delete_pod(node, old.typed()?),
            (Operation::Create, "eviction", _, Some(pod)) => rules::evict_pod(node, pod.typed()?),
            // The deletion says that there is none.
            (Operation::Create, "eviction", _, None) => Ok(()),
            (Operation::Update, "status", Some(new), Some(old)) => {
                rules::update_pod_status(node, old.typed()?, new.typed()?)
            }
            _ => Err(rules::pod_subresource(node, subresource)),
        })
    }

    fn token(
        &self,
        node: &str,
        attributes: &Attributes<'_>,
        request: &TokenRequest,
    ) -> Result<Result<(), Violation>, ApiError> {
        let (namespace, account) = (attributes.namespace, attributes.name);
        let bound = request
            .spec
            .as_ref()
            .and_then(|spec| spec.bound_object_ref.as_ref())
            .and_then(|r| r.name.as_deref());
        let pod: Option<Pod> = match bound {
            Some(name) => self.storage.read(PODS, namespace, name)?,
            None => None,
        };
        let drivers: Vec<CSIDriver> = self.storage.read_all(CSI_DRIVERS, None)?;
        let may_request = |audience: &str| {
            let asked = attributes::Attributes {
                user: attributes.user,
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
            !audience.is_empty() && self.authorizer.authorize(&asked).allowed()
        };
        let spec = request.spec.clone().unwrap_or_default();
        Ok(rules::create_token(&TokenQuestion {
            node,
            account,
            request: &spec,
            pod: pod.as_ref(),
            drivers: &drivers,
            may_request: &may_request,
        }))
    }
}

impl Plugin for NodeRestriction {
    /// What nodes have rights to write; the authorizer refuses them everything else.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        identity(&attributes.user.name, &attributes.user.groups) != Identity::Other
    }

    /// As on the stock server, what a node may not write at all is refused before it is validated; what others make of
    /// the object is judged once more.
    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        self.validate(attributes, Some(object))
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let node = match identity(&attributes.user.name, &attributes.user.groups) {
            Identity::Other => return Ok(()),
            Identity::Node(node) => node,
            Identity::Unnamed => {
                let violation = Violation::Unnamed(attributes.user.name.clone());
                return Err(attributes.forbidden(violation.to_string()));
            }
        };
        let row = attributes.resource;
        let checked = match (&*row.group, &*row.plural) {
            ("", "pods") => self.pod(node, attributes, object)?,
            ("", "nodes") => match (attributes.operation, object, attributes.old) {
                (Operation::Create, Some(new), _) => rules::create_node(node, new.typed()?),
                (Operation::Update, Some(new), Some(old)) => {
                    rules::update_node(node, old.typed()?, new.typed()?)
                }
                _ => rules::modify_node(node, attributes.name),
            },
            ("", "serviceaccounts") => match (attributes.subresource, object) {
                ("token", Some(request)) => self.token(node, attributes, request.typed()?)?,
                _ => Ok(()),
            },
            ("coordination.k8s.io", "leases") => {
                rules::lease(node, attributes.namespace, attributes.name)
            }
            ("storage.k8s.io", "csinodes") => rules::csi_node(node, attributes.name),
            _ => Ok(()),
        };
        checked.map_err(|violation| attributes.forbidden(violation.to_string()))
    }
}
