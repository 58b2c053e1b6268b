//! The Node authorizer: what a node may do is decided here and not by a binding, so that the group `system:nodes` alone
//! gives nobody anything (as on the stock server, whose binding `system:node` has no subjects).
//!
//! A node has the rules of the ClusterRole `system:node` as they are built in, and of what they allow only what
//! concerns itself and its pods. What it may write into those objects is for
//! [`berth_rules::admission::node_restriction`].

mod volumes;

use std::sync::LazyLock;

use berth_rules::admission::node_restriction::{
    Identity, LEASE_NAMESPACE, MIRROR_POD, identity, references,
};
use berth_rules::rbac::{self, rule, stock};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Decision;
use crate::{
    attributes::{self, Attributes, ResourceAttributes},
    storage::Storage,
    user::User,
};

const PODS: &str = "core/pods";
const NODE_NAME: &str = "spec.nodeName";

static RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(stock::node_rules);

/// What is asked for, as far as it counts here.
struct Asked<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    /// The one name that the request is limited to; empty when it is not.
    name: &'a str,
    /// The node whose pods a list is limited to.
    selected_node: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(asked: &ResourceAttributes<'a>) -> Self {
        Self {
            verb: asked.action.as_str(),
            group: asked.group,
            resource: asked.resource,
            subresource: asked.subresource,
            namespace: asked.namespace,
            name: asked.name,
            selected_node: asked.field(NODE_NAME),
        }
    }

    fn reads(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }

    fn writes_one_of_its_own(&self) -> bool {
        matches!(self.verb, "get" | "create" | "update" | "patch" | "delete")
    }
}

/// What a node reads because its pods refer to it.
#[derive(Clone, Copy)]
enum Related {
    Secret,
    ConfigMap,
    Claim,
    Account,
}

/// Whether the user may do this as a node; none for users that are no nodes.
pub(super) fn authorize(
    attributes: &Attributes<'_>,
    request: &rbac::Request<'_>,
    storage: &Storage,
) -> Option<Decision> {
    let user = attributes.user;
    let node = match identity(&user.name, &user.groups) {
        Identity::Other => return None,
        Identity::Unnamed => {
            let reason = format!("unknown node for user {:?}", user.name);
            return Some(Decision::NoOpinion(reason));
        }
        Identity::Node(node) => node,
    };
    let by_rules = || {
        let allowed = RULES.iter().any(|r| rule::allows(r, request));
        allowed.then_some(()).ok_or_else(String::new)
    };
    let checked = match &attributes.asked {
        attributes::Asked::Resource(asked) => {
            subdivided(node, &Asked::of(asked), storage).unwrap_or_else(by_rules)
        }
        attributes::Asked::Path { .. } => by_rules(),
    };
    Some(match checked {
        Ok(()) => Decision::Allow(String::new()),
        Err(reason) => Decision::NoOpinion(reason),
    })
}

/// Whether the user is a node, whose rights no list of rules enumerates.
pub(super) fn is_node(user: &User) -> bool {
    identity(&user.name, &user.groups) != Identity::Other
}

/// The decision on resources of which a node sees a part; none for those that the rules alone decide on.
fn subdivided(node: &str, asked: &Asked<'_>, storage: &Storage) -> Option<Result<(), String>> {
    Some(match (asked.group, asked.resource) {
        ("", "secrets") => read_related(node, asked, Related::Secret, storage),
        ("", "configmaps") => read_related(node, asked, Related::ConfigMap, storage),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => {
            if matches!(asked.verb, "update" | "patch") {
                related(node, asked, Related::Claim, storage)
            } else {
                refuse("can only get/update/patch this type")
            }
        }
        ("", "persistentvolumeclaims") => {
            if asked.verb != "get" {
                refuse("can only get individual resources of this type")
            } else if !asked.subresource.is_empty() {
                refuse("cannot get subresource")
            } else {
                related(node, asked, Related::Claim, storage)
            }
        }
        ("", "persistentvolumes") => volumes::volume(node, asked, storage),
        ("storage.k8s.io", "volumeattachments") => volumes::attachment(node, asked, storage),
        ("resource.k8s.io", "resourceclaims") => volumes::resource_claim(node, asked, storage),
        ("resource.k8s.io", "resourceslices") => volumes::resource_slice(node, asked),
        ("", "serviceaccounts") => {
            if asked.verb != "create" || asked.name.is_empty() {
                refuse("can only create tokens for individual service accounts")
            } else if asked.subresource != "token" {
                refuse("can only create token subresource of serviceaccount")
            } else {
                related(node, asked, Related::Account, storage)
            }
        }
        ("coordination.k8s.io", "leases") => lease(node, asked),
        ("storage.k8s.io", "csinodes") => csi_node(node, asked),
        ("", "nodes") => nodes(node, asked),
        ("", "pods") => pods(node, asked, storage),
        _ => return None,
    })
}

fn refuse(reason: impl Into<String>) -> Result<(), String> {
    Err(reason.into())
}

fn lease(node: &str, asked: &Asked<'_>) -> Result<(), String> {
    if !asked.writes_one_of_its_own() {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASE_NAMESPACE {
        return refuse(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, asked: &Asked<'_>) -> Result<(), String> {
    if !asked.writes_one_of_its_own() {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn nodes(node: &str, asked: &Asked<'_>) -> Result<(), String> {
    match (asked.subresource, asked.verb) {
        ("", "create") => Ok(()),
        ("", "update" | "patch") | ("status", "update" | "patch") if asked.name == node => Ok(()),
        ("", "update" | "patch") | ("status", "update" | "patch") => {
            refuse(format!("node '{node}' cannot modify '{}'", asked.name))
        }
        ("", "get" | "list" | "watch") if asked.name == node => Ok(()),
        ("", "get" | "list" | "watch") if asked.name.is_empty() => refuse(format!(
            "node '{node}' cannot read all nodes, only its own Node object"
        )),
        ("", "get" | "list" | "watch") => refuse(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            asked.name
        )),
        _ => refuse(""),
    }
}

fn pods(node: &str, asked: &Asked<'_>, storage: &Storage) -> Result<(), String> {
    let own = || match storage.read::<Pod>(PODS, asked.namespace, asked.name) {
        Ok(Some(pod)) if runs_on(&pod, node) => Ok(()),
        Ok(_) => refuse(unrelated(node)),
        Err(error) => refuse(error.to_string()),
    };
    match (asked.subresource, asked.verb) {
        ("", "get") => own(),
        ("", "list" | "watch") if asked.selected_node == Some(node) => Ok(()),
        ("", "list" | "watch") if !asked.name.is_empty() && !asked.namespace.is_empty() => own(),
        ("", "list" | "watch") => {
            refuse("can only list/watch pods with spec.nodeName field selector")
        }
        // which pods these may be is for admission, which sees them
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            Ok(())
        }
        _ => refuse(""),
    }
}

fn runs_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn read_related(
    node: &str,
    asked: &Asked<'_>,
    kind: Related,
    storage: &Storage,
) -> Result<(), String> {
    if !asked.reads() {
        return refuse("can only read resources of this type");
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot read subresource");
    }
    if asked.namespace.is_empty() {
        return refuse("can only read namespaced object of this type");
    }
    related(node, asked, kind, storage)
}

/// Whether a pod on the node refers to the object.
fn related(node: &str, asked: &Asked<'_>, kind: Related, storage: &Storage) -> Result<(), String> {
    if asked.name.is_empty() {
        return refuse("No Object name found");
    }
    let mut pods = pods_of(node, asked.namespace, storage);
    if pods.any(|pod| refers(&pod, kind, asked.name)) {
        Ok(())
    } else {
        refuse(unrelated(node))
    }
}

/// The node's pods in a namespace. One that does not decode gives its node no rights.
fn pods_of(node: &str, namespace: &str, storage: &Storage) -> impl Iterator<Item = Pod> {
    let at = storage
        .cache(PODS)
        .field_labels()
        .iter()
        .position(|label| label.label == NODE_NAME);
    storage
        .list(PODS, Some(namespace))
        .into_iter()
        .filter(move |stored| {
            at.and_then(|at| stored.fields.get(at))
                .is_none_or(|on| &**on == node)
        })
        .filter_map(|stored| stored.decode::<Pod>().ok())
        .filter(move |pod| runs_on(pod, node))
}

fn refers(pod: &Pod, kind: Related, name: &str) -> bool {
    // A node makes its mirror pods itself: they must never give it anything.
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.contains_key(MIRROR_POD)) {
        return false;
    }
    match kind {
        Related::Secret => references(pod).secrets.contains(name),
        Related::ConfigMap => references(pod).config_maps.contains(name),
        Related::Claim => references(pod).claims.contains(name),
        Related::Account => {
            pod.spec
                .as_ref()
                .and_then(|s| s.service_account_name.as_deref())
                == Some(name)
        }
    }
}
