//! `/stats/starts/NAMESPACE/POD`: where the time of a pod's start went.
//!
//! Names, classes and times: what `/stats/summary` and `/pods` tell as well. Of errors there is no text, which a pod's author
//! and registries choose: the pod's events have them, for whom they are.

use http::Response;

use super::reply::{Body, NotServed, json};
use crate::agent::Agent;

/// Asks for the pod with this UID, not for the newest of the name.
const UID: &str = "uid";

pub(super) fn report(
    agent: &Agent,
    query: Option<&str>,
    namespace: &str,
    pod: &str,
) -> Result<Response<Body>, NotServed> {
    let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let uid = query
        .into_iter()
        .find(|(key, _)| key == UID)
        .map(|(_, uid)| uid.into_owned());
    let start = agent.starts.find(namespace, pod, uid.as_deref());
    let start = start.ok_or_else(|| {
        NotServed::not_found(format!(
            "the start of pod \"{namespace}/{pod}\" is not kept: this node keeps those of its last pods, since it was started"
        ))
    })?;
    Ok(json(&start.report(&agent.config.node_name)))
}
