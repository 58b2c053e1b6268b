//! What lets machines join with a bootstrap token. The reference's bootstrap policy has the roles and no bindings; these are the
//! ones that its page on TLS bootstrapping tells administrators to make, and kubeadm's for `cluster-info`.
//!
//! A bootstrapper may ask for certificates, and gets one of a node without anybody's help. It may do nothing else.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use super::data::named;
use super::{Line, metadata, role_ref, subject};

/// Name, role, subject.
const CLUSTER_ROLE_BINDINGS: [(&str, &str, &str); 3] = [
    (
        "create-csrs-for-bootstrapping",
        "system:node-bootstrapper",
        "Group:system:bootstrappers",
    ),
    (
        "auto-approve-csrs-for-group",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "Group:system:bootstrappers",
    ),
    (
        "auto-approve-renewals-for-nodes",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "Group:system:nodes",
    ),
];

/// Whoever knows nothing of the cluster but the hash of its CA's key gets the CA from there.
pub(super) const CLUSTER_INFO_ROLE: (&str, &str, &[Line]) = (
    "kube-public",
    "kubeadm:bootstrap-signer-clusterinfo",
    &[named("get", "core", "configmaps", "cluster-info")],
);
pub(super) const CLUSTER_INFO_BINDING: (&str, &str, &str, &str) = (
    "kube-public",
    "kubeadm:bootstrap-signer-clusterinfo",
    "kubeadm:bootstrap-signer-clusterinfo",
    "User:system:anonymous",
);

pub(super) fn cluster_role_bindings() -> impl Iterator<Item = ClusterRoleBinding> {
    CLUSTER_ROLE_BINDINGS
        .into_iter()
        .map(|(name, role, to)| ClusterRoleBinding {
            metadata: metadata(name, None),
            role_ref: role_ref("ClusterRole", role),
            subjects: Some(vec![subject(to)]),
        })
}
