//! The node's Lease in kube-node-lease: the cheap heartbeat.

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::Patch;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::writes;

/// An API server that takes longer for a renewal does not answer.
const LIMIT: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(agent.config.client.clone(), NAMESPACE);
    let mut node = agent.node.subscribe();
    // The owner reference needs the Node's uid.
    tokio::select! {
        () = shutdown.cancelled() => return,
        known = node.wait_for(Option::is_some) => if known.is_err() { return },
    }
    let mut outage = Outage::new("cannot renew the node's Lease");
    loop {
        let pause = match tokio::time::timeout(LIMIT, renew(&agent, &api)).await {
            Ok(Ok(())) => {
                outage.works();
                agent.config.lease_renew_interval
            }
            Ok(Err(error)) => outage.failed(Brief(&error)),
            Err(_) => outage.failed("the API server did not answer in 10 s"),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(agent: &Agent, api: &Api<Lease>) -> Result<(), kube::Error> {
    let name = &agent.config.node_name;
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"holderIdentity": name, "renewTime": now}});
    match api
        .patch(name, &writes::patch(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(s)) if s.code == 404 => {}
        Err(e) => return Err(e),
    }
    let uid = agent
        .node
        .borrow()
        .as_ref()
        .and_then(|n| n.metadata.uid.clone())
        .unwrap_or_default();
    let seconds = agent.config.lease_renew_interval.as_secs().max(1) * 4;
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&writes::create(), &lease).await.map(drop)
}
