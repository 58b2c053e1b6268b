//! What an event says of a request and its bodies, read from what came.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::policy::Subject;
use crate::request::ApiRequest;
use crate::{negotiate, protobuf};

/// Characters of a user agent, as on the stock server.
const MAX_USER_AGENT: usize = 1024;
const TRUNCATED_USER_AGENT: &str = "...TRUNCATED";
/// Addresses that a client may claim to have come from.
const MAX_SOURCES: usize = 16;

/// What is known of a request when it comes.
pub(crate) struct Asking<'a> {
    pub(crate) id: &'a HeaderValue,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: IpAddr,
    /// None for what cannot be read as a request.
    pub(crate) request: Option<&'a ApiRequest>,
}

/// What a body says of its object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
}

pub(super) fn named(bytes: &[u8], media: &str) -> Option<Named> {
    #[derive(Deserialize)]
    struct Posted {
        metadata: Named,
    }
    if media.contains("patch") {
        return None;
    }
    if media.contains("json") {
        return Some(serde_json::from_slice::<Posted>(bytes).ok()?.metadata);
    }
    let value = body(bytes, media)?;
    Some(serde_json::from_value::<Posted>(value).ok()?.metadata)
}

/// A body as JSON; none for what is not well-formed, and for what has no such form.
pub(super) fn body(bytes: &[u8], media: &str) -> Option<Value> {
    if media.starts_with(protobuf::MEDIA_TYPE) {
        return protobuf::decode(bytes).ok();
    }
    if media.contains("yaml") {
        return Some(negotiate::yaml(bytes).ok()?.value);
    }
    if media.contains("json") || media == "*/*" {
        return serde_json::from_slice(bytes).ok();
    }
    None
}

pub(super) fn describe(asking: &Asking<'_>) -> (String, Subject) {
    match asking.request {
        Some(ApiRequest::Resource(request)) => {
            let target = &request.target;
            let subject = Subject::Resource {
                group: target.group.clone(),
                version: target.version.clone(),
                resource: target.resource.clone(),
                subresource: target.subresource.clone(),
                namespace: target.namespace.clone(),
                name: request.name().to_owned(),
            };
            (request.verb.as_str().to_owned(), subject)
        }
        Some(ApiRequest::Path(request)) => {
            (request.method.clone(), Subject::Path(request.path.clone()))
        }
        None => {
            let method = asking.method.as_str().to_ascii_lowercase();
            (method, Subject::Path(asking.uri.path().to_owned()))
        }
    }
}

pub(super) fn shortened(agent: String) -> String {
    if agent.chars().count() <= MAX_USER_AGENT {
        return agent;
    }
    let mut short: String = agent.chars().take(MAX_USER_AGENT).collect();
    short.push_str(TRUNCATED_USER_AGENT);
    short
}

/// Where a request came from: what the client says of that, and last where the connection comes from.
pub(super) fn sources(headers: &HeaderMap, peer: IpAddr) -> Vec<String> {
    let mut sources: Vec<IpAddr> = Vec::new();
    let claimed = |name: &'static str| {
        let values = headers.get_all(name).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(','))
    };
    let forwarded = claimed("x-forwarded-for").chain(claimed("x-real-ip"));
    for address in forwarded.filter_map(|address| address.trim().parse().ok()) {
        if sources.len() < MAX_SOURCES && !sources.contains(&address) {
            sources.push(address);
        }
    }
    let peer = peer.to_canonical();
    if sources.last() != Some(&peer) {
        sources.push(peer);
    }
    sources.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_claims_comes_before_where_it_is() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            sources(&headers, peer)
        };
        assert_eq!(sources(&HeaderMap::new(), peer), ["10.0.0.1"]);
        assert_eq!(
            of("x-forwarded-for", "1.2.3.4, nonsense, 5.6.7.8"),
            ["1.2.3.4", "5.6.7.8", "10.0.0.1"]
        );
        assert_eq!(of("x-real-ip", "10.0.0.1"), ["10.0.0.1"]);
        let many: Vec<String> = (0..100).map(|n| format!("10.1.1.{n}")).collect();
        let told = of("x-forwarded-for", &many.join(","));
        assert_eq!(
            (told.len(), told.last().unwrap().as_str()),
            (MAX_SOURCES + 1, "10.0.0.1")
        );
    }

    #[test]
    fn a_user_agent_has_a_length() {
        let long = shortened("ä".repeat(2000));
        assert_eq!(
            long.chars().count(),
            MAX_USER_AGENT + TRUNCATED_USER_AGENT.len()
        );
        assert_eq!(shortened("kubectl".to_owned()), "kubectl");
    }
}
