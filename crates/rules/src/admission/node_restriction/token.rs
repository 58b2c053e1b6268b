//! Tokens of service accounts: a node gets those that its pods mount, and no others.

use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSIDriver;

use super::{NODE_USER_PREFIX, Violation};

/// Seconds of a token for which no lifetime is asked.
const DEFAULT_SECONDS: i64 = 3600;

/// A TokenRequest by a node, and what it concerns.
pub struct TokenQuestion<'a> {
    /// The node.
    pub node: &'a str,
    /// The service account in the path.
    pub account: &'a str,
    /// What is asked for.
    pub request: &'a TokenRequestSpec,
    /// The pod that `boundObjectRef` names, in the namespace of the account.
    pub pod: Option<&'a Pod>,
    /// The CSI drivers, which have tokens of pods handed to them.
    pub drivers: &'a [CSIDriver],
    /// Whether the node may ask for this audience whatever the pod says (verb
    /// `request-serviceaccounts-token-audience`).
    pub may_request: &'a dyn Fn(&str) -> bool,
}

/// Whether the node may have the token.
///
/// # Errors
/// Unless it is bound to a pod on the node, is of the pod's account, for an audience that the pod mounts a token for,
/// and lives at most as long as the pod asks for.
pub fn create_token(question: &TokenQuestion<'_>) -> Result<(), Violation> {
    let spec = question.request;
    let bound = spec
        .bound_object_ref
        .as_ref()
        .filter(|r| r.api_version.as_deref() == Some("v1") && r.kind.as_deref() == Some("Pod"))
        .ok_or(Violation::Unbound)?;
    let name = bound
        .name
        .as_deref()
        .filter(|n| !n.is_empty())
        .ok_or(Violation::Unbound)?;
    let uid = bound
        .uid
        .as_deref()
        .filter(|u| !u.is_empty())
        .ok_or(Violation::BoundWithoutUid)?;
    let pod = question
        .pod
        .filter(|pod| pod.metadata.name.as_deref() == Some(name))
        .ok_or_else(|| Violation::BoundToNothing(name.to_owned()))?;
    if pod.metadata.uid.as_deref() != Some(uid) {
        return Err(Violation::BoundUid(uid.to_owned()));
    }
    let pod_spec = pod.spec.as_ref();
    if pod_spec.and_then(|s| s.node_name.as_deref()) != Some(question.node) {
        return Err(Violation::BoundElsewhere);
    }
    let runs_as = pod_spec
        .and_then(|s| s.service_account_name.as_deref())
        .unwrap_or_default();
    if runs_as != question.account {
        return Err(Violation::OtherAccount {
            account: question.account.to_owned(),
            runs_as: runs_as.to_owned(),
        });
    }
    let audience = match spec.audiences.as_deref().unwrap_or_default() {
        [] => "",
        [one] => one.as_str(),
        _ => return Err(Violation::ManyAudiences),
    };
    let asked = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    match longest(pod, audience, question.drivers) {
        Some(most) if asked > most => Err(Violation::Outlives { asked, most }),
        Some(_) => Ok(()),
        None if (question.may_request)(audience) => Ok(()),
        None => Err(Violation::Audience {
            audience: audience.to_owned(),
            user: format!("{NODE_USER_PREFIX}{}", question.node),
        }),
    }
}

/// The longest life in seconds that the pod asks for a token of an audience; none when it asks for no such token.
fn longest(pod: &Pod, audience: &str, drivers: &[CSIDriver]) -> Option<i64> {
    let volumes = || pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let projected = volumes()
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten())
        .filter_map(|s| s.service_account_token.as_ref())
        .filter(|t| t.audience.as_deref().unwrap_or_default() == audience)
        .map(|t| t.expiration_seconds.unwrap_or(DEFAULT_SECONDS));
    let handed = volumes()
        .filter_map(|v| v.csi.as_ref())
        .flat_map(|csi| {
            drivers
                .iter()
                .filter(|d| d.metadata.name.as_deref() == Some(csi.driver.as_str()))
        })
        .flat_map(|d| d.spec.token_requests.iter().flatten())
        .filter(|t| t.audience == audience)
        .map(|t| t.expiration_seconds.unwrap_or(DEFAULT_SECONDS));
    projected.chain(handed).max()
}
