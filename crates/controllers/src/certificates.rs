//! CertificateSigningRequests: approval of those of nodes, signing of what is approved, and removal of old ones.
//!
//! Signers, as the stock controller manager has them:
//!
//! | signer | certificate | approved here |
//! |---|---|---|
//! | `kubernetes.io/kube-apiserver-client` | of a user | never: people do |
//! | `kubernetes.io/kube-apiserver-client-kubelet` | of a node as a client | when its user may create `nodeclient` or `selfnodeclient` |
//! | `kubernetes.io/kubelet-serving` | of a node as a server | when the node asks for its own name and addresses |
//!
//! The third is approved by nobody on a stock cluster without a controller of its own. Requests for other signers are left to
//! others.

mod approve;
mod clean;
mod looked;
mod request;
mod sign;

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Brief, Tasks};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::server::is_code;
use crate::{Reflected, reflect};

use self::looked::Looked;
pub use self::sign::{Authority, AuthorityError};

/// How often old requests are looked for.
const PERIOD: Duration = Duration::from_secs(300);

/// Runs until the tasks are to stop.
pub async fn run(
    client: Client,
    authority: Arc<Authority>,
    mut nodes: Reflected<Node>,
    tasks: Tasks,
) {
    let shutdown = tasks.stop_token();
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut requests = reflect(&tasks, api.clone(), None);
    let mut looked = Looked::default();
    loop {
        let mut soon = false;
        if requests.is_complete() && nodes.is_complete() {
            for request in requests.all() {
                let (now, at) = (jiff::Timestamp::now(), Instant::now());
                soon |= looked::waits_for_its_node(&request, now);
                if !looked.is_due(&request, now, at) {
                    continue;
                }
                match take(&client, &authority, &nodes, &request).await {
                    Ok(()) => looked.note(&request, at),
                    Err(error) => {
                        soon = true;
                        warn!(request = request.name_any(), error = %Brief(&error), "a certificate signing request waits");
                    }
                }
            }
        }
        let pause = looked.next(Instant::now(), soon).unwrap_or(PERIOD);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = requests.changed_or(pause) => {}
            () = nodes.changed_or(pause), if soon => {}
        }
    }
}

/// Does what there is to do with a request.
async fn take(
    client: &Client,
    authority: &Authority,
    nodes: &Reflected<Node>,
    request: &Arc<CertificateSigningRequest>,
) -> kube::Result<()> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = request.name_any();
    let now = jiff::Timestamp::now();
    if let Some(why) = clean::why_removed(request, now) {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: request.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        return match api.delete(&name, &params).await {
            Ok(_) => {
                info!(request = name, why, "removed a certificate signing request");
                Ok(())
            }
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        };
    }
    let next = match request::state(request) {
        request::State::Done => return Ok(()),
        request::State::Pending => approve::approved(client, &nodes.all(), request, now).await?,
        request::State::Approved => sign::signed(authority, request, now),
    };
    let Some((subresource, next)) = next else {
        return Ok(());
    };
    match api
        .replace_subresource(subresource, &name, &kube::api::PostParams::default(), &next)
        .await
    {
        Ok(_) => Ok(()),
        // It has changed since, or is gone: there will be an event.
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error),
    }
}
