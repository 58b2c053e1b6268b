//! ServiceAccount: every pod has an account that exists, with its image pull secrets.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};

use super::{forbidden, pod::name};
use crate::rest::Call;

/// Pods that mirror a node's static pods must not use the API.
const MIRROR: &str = "kubernetes.io/config.mirror";
const DEFAULT: &str = "default";

/// Fills in the account and checks that it exists.
pub(super) fn admit(call: &Call, pod: &mut Pod) -> Result<(), ApiError> {
    let pod_name = name(pod).to_owned();
    let mirror = pod
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(MIRROR));
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    let given = spec.service_account_name.clone().unwrap_or_default();
    if mirror {
        if !given.is_empty() {
            return Err(forbidden(
                call,
                &pod_name,
                "a mirror pod may not reference service accounts",
            ));
        }
        return Ok(());
    }
    let account_name = if given.is_empty() { DEFAULT } else { &given };
    let namespace = call.namespace();
    let account: Option<ServiceAccount> =
        call.api
            .storage
            .read("core/serviceaccounts", namespace, account_name);
    let account = match account {
        Some(account) => account,
        // The namespace may be so new that nobody has made its default account yet. The account
        // will be there before a node needs it.
        None if account_name == DEFAULT => ServiceAccount::default(),
        None => {
            return Err(forbidden(
                call,
                &pod_name,
                format!(
                    "error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found"
                ),
            ));
        }
    };
    spec.service_account_name = Some(account_name.to_owned());
    spec.service_account = Some(account_name.to_owned());
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets = account.image_pull_secrets.filter(|s| !s.is_empty());
    }
    Ok(())
}
