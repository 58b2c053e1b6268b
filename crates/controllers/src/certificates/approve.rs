//! Approval of the certificates of nodes.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use tracing::{debug, info};

use crate::server::path_segment;

use super::request::{KUBELET_CLIENT, KUBELET_SERVING, Names, misfit, with_condition};

const NODES: &str = "system:nodes";
const USER: &str = "system:node:";
/// Names of the API server and of every machine, which no node gets a certificate for by being called so.
const RESERVED: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A pending request with its approval; nothing when it is left to others.
pub(super) async fn approved(
    client: &Client,
    nodes: &[Arc<Node>],
    request: &CertificateSigningRequest,
    now: jiff::Timestamp,
) -> kube::Result<Option<(&'static str, CertificateSigningRequest)>> {
    let spec = &request.spec;
    let signer = spec.signer_name.as_str();
    if ![KUBELET_CLIENT, KUBELET_SERVING].contains(&signer) {
        return Ok(None);
    }
    let usages = spec.usages.as_deref().unwrap_or_default();
    let names = match Names::read(&spec.request.0) {
        Ok(names) => names,
        Err(why) => return Ok(left(request, &why)),
    };
    if let Some(why) = misfit(signer, &names, usages) {
        return Ok(left(request, &why));
    }
    let message = if signer == KUBELET_SERVING {
        let servers = server_addresses(client).await?;
        if let Err(why) = serves_itself(spec, &names, nodes, &servers) {
            return Ok(left(request, &why));
        }
        "Auto approving kubelet serving certificate of the node's own name and addresses."
    } else {
        let own = names.node() == spec.username.as_deref();
        let name = names.node().unwrap_or_default().trim_start_matches(USER);
        // Asked for now: a node that has just registered may not be among the watched ones yet.
        let registered = match path_segment(name) {
            Some(name) => {
                let nodes: Api<Node> = Api::all(client.clone());
                nodes.get_opt(&name).await?.is_some()
            }
            None => return Ok(left(request, "no node can have this name")),
        };
        if own && may_create(client, spec, "selfnodeclient").await? {
            "Auto approving self kubelet client certificate after SubjectAccessReview."
        } else if registered && !own {
            // Whoever has a bootstrap token could be any node of the cluster otherwise.
            return Ok(left(
                request,
                "there is such a node already; delete it first, or approve the request (kubectl certificate approve)",
            ));
        } else if may_create(client, spec, "nodeclient").await? {
            "Auto approving kubelet client certificate after SubjectAccessReview."
        } else {
            return Ok(left(
                request,
                "its user may create neither nodeclient nor selfnodeclient of certificatesigningrequests",
            ));
        }
    };
    info!(
        request = request.name_any(),
        user = spec.username,
        signer,
        "approved a certificate signing request"
    );
    let next = with_condition(request, "Approved", "AutoApproved", message.to_owned(), now);
    Ok(Some(("approval", next)))
}

fn left(
    request: &CertificateSigningRequest,
    why: &str,
) -> Option<(&'static str, CertificateSigningRequest)> {
    debug!(
        request = request.name_any(),
        why, "a certificate signing request is left to others"
    );
    None
}

/// Whether a node asks for a serving certificate of names and addresses that are its own and nobody else's. A node writes its
/// addresses itself: those of another node or of an API server are not to be had that way, nor those that mean this machine.
fn serves_itself(
    spec: &CertificateSigningRequestSpec,
    names: &Names,
    nodes: &[Arc<Node>],
    servers: &[IpAddr],
) -> Result<(), String> {
    let user = spec.username.as_deref().unwrap_or_default();
    let groups = spec.groups.as_deref().unwrap_or_default();
    if names.node() != Some(user) || !groups.iter().any(|group| group == NODES) {
        return Err("another user asks for it than the node itself".to_owned());
    }
    let name = user.trim_start_matches(USER);
    let node = nodes.iter().find(|node| node.name_any() == name);
    let node = node.ok_or_else(|| format!("there is no node {name:?}"))?;
    if let Some(other) = names.dns.iter().find(|dns| *dns != name) {
        return Err(format!("{other:?} is not the node's name"));
    }
    if RESERVED.contains(&name) {
        return Err(format!(
            "{name:?} is not a name that a node has a certificate for"
        ));
    }
    for address in &names.addresses {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Err(format!("{address} is nobody's address"));
        }
        if !addresses(node).any(|own| own == *address) {
            return Err(format!("{address} is not among the node's addresses"));
        }
        let shared = |other: &&Arc<Node>| {
            other.name_any() != name && addresses(other).any(|theirs| theirs == *address)
        };
        if let Some(other) = nodes.iter().find(shared) {
            return Err(format!(
                "{address} is an address of node {:?}, too",
                other.name_any()
            ));
        }
        // Whoever had a certificate for it could take the API server's place.
        if servers.contains(address) {
            return Err(format!("{address} is an address of the API server"));
        }
    }
    Ok(())
}

/// The addresses at which clients look for the API server: those of the Service `default/kubernetes`, and behind it.
async fn server_addresses(client: &Client) -> kube::Result<Vec<IpAddr>> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let service = services.get("kubernetes").await?;
    let of_it = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let behind = slices.list(&of_it).await?;
    let spec = service.spec.as_ref();
    let own = spec.and_then(|spec| spec.cluster_ips.as_deref());
    let all = own.unwrap_or_default().iter().chain(
        behind
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .flat_map(|endpoint| &endpoint.addresses),
    );
    Ok(all.filter_map(|address| address.parse().ok()).collect())
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let status = node.status.as_ref();
    let all = status.and_then(|status| status.addresses.as_deref());
    all.unwrap_or_default()
        .iter()
        .filter_map(|address| address.address.parse().ok())
}

/// Whether the request's user may create a subresource of certificatesigningrequests that stands for a kind of approval.
async fn may_create(
    client: &Client,
    spec: &CertificateSigningRequestSpec,
    subresource: &str,
) -> kube::Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::tests::{decode, request};
    use super::*;

    fn node(name: &str, address: &str) -> Arc<Node> {
        Arc::new(decode(json!({"metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}})))
    }

    fn spec(user: &str, groups: &[&str]) -> CertificateSigningRequestSpec {
        CertificateSigningRequestSpec {
            username: Some(user.to_owned()),
            groups: Some(groups.iter().map(|group| (*group).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        }
    }

    #[test]
    fn a_node_serves_its_own_name_and_addresses_only() {
        let nodes = [
            node("n1", "10.0.0.1"),
            node("n2", "10.0.0.2"),
            node("n3", "10.0.0.1"),
        ];
        let alone = &nodes[..2];
        let server = ["10.0.0.9".parse().expect("an address")];
        let asks = |user: &str, nodes: &[Arc<Node>], dns: &[&str], addresses: &[&str]| {
            let names = Names::read(&request(&[NODES], "system:node:n1", dns, addresses));
            serves_itself(
                &spec(user, &[NODES]),
                &names.expect("names"),
                nodes,
                &server,
            )
        };
        assert_eq!(
            asks("system:node:n1", alone, &["n1"], &["10.0.0.1"]),
            Ok(())
        );
        for (user, nodes, dns, addresses) in [
            ("system:node:n2", alone, &["n1"][..], &["10.0.0.1"][..]),
            ("jane", alone, &["n1"], &["10.0.0.1"]),
            ("system:node:n1", alone, &["n2"], &[]),
            ("system:node:n1", alone, &["kubernetes.default.svc"], &[]),
            ("system:node:n1", alone, &["n1"], &["10.0.0.2"]),
            ("system:node:n1", alone, &["n1"], &["127.0.0.1"]),
            ("system:node:n1", alone, &["n1"], &["0.0.0.0"]),
            ("system:node:n1", &nodes, &["n1"], &["10.0.0.1"]),
            ("system:node:n1", &[], &["n1"], &[]),
        ] {
            assert!(
                asks(user, nodes, dns, addresses).is_err(),
                "{user} {dns:?} {addresses:?}"
            );
        }
        // A node that says of itself that it has the API server's address.
        let liar = [node("n1", "10.0.0.9")];
        assert!(asks("system:node:n1", &liar, &["n1"], &["10.0.0.9"]).is_err());
    }

    #[test]
    fn a_name_of_the_api_server_is_no_name_of_a_node() {
        let nodes = [node("kubernetes.default.svc", "10.0.0.1")];
        let user = "system:node:kubernetes.default.svc";
        let pem = request(&[NODES], user, &["kubernetes.default.svc"], &[]);
        let names = Names::read(&pem).expect("names");
        assert!(serves_itself(&spec(user, &[NODES]), &names, &nodes, &[]).is_err());
    }
}
