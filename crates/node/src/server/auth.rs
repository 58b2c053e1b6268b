//! Who may ask: the API server's client certificate, administrators, and whoever the API server's
//! own authorization lets at the node (TokenReview, SubjectAccessReview).

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use tracing::debug;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::reply::{Body, text};
use crate::agent::Agent;

/// The name in the certificate that the stock API server shows a kubelet.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// A user and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    user: String,
    groups: Vec<String>,
}

/// The verified client certificate's subject: CN is the user, each O a group.
pub(super) fn caller(tls: &rustls::ServerConnection) -> Option<Caller> {
    let cert = tls.peer_certificates()?.first()?;
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    let subject = cert.subject();
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        a.as_str().map(str::to_owned).unwrap_or_default()
    };
    Some(Caller {
        user: subject.iter_common_name().next().map(text)?,
        groups: subject.iter_organization().map(text).collect(),
    })
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    text(status, message.into())
}

pub(super) async fn allow(
    agent: &Agent,
    caller: Option<Caller>,
    request: &Request<Incoming>,
) -> Result<(), Response<Body>> {
    let path = request.uri().path();
    if path == "/healthz" {
        return Ok(());
    }
    let caller = match (caller, bearer(request)) {
        (Some(caller), _) => caller,
        (None, Some(token)) => review(agent, token)
            .await
            .ok_or_else(|| refuse(StatusCode::UNAUTHORIZED, "Unauthorized"))?,
        (None, None) => return Err(refuse(StatusCode::UNAUTHORIZED, "Unauthorized")),
    };
    if caller.user == API_SERVER || caller.groups.iter().any(|g| g == MASTERS) {
        return Ok(());
    }
    let (verb, subresource) = attributes(request.method(), path);
    if permitted(agent, &caller, verb, subresource).await {
        return Ok(());
    }
    let message = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource})",
        caller.user
    );
    Err(refuse(StatusCode::FORBIDDEN, message))
}

fn bearer(request: &Request<Incoming>) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|t| !t.is_empty())
}

/// The verb and the subresource of the Node that a request stands for.
fn attributes(method: &Method, path: &str) -> (&'static str, &'static str) {
    let verb = match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    };
    let subresource = match path.trim_start_matches('/').split('/').next() {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("pods" | "runningpods") => "pods",
        _ => "proxy",
    };
    (verb, subresource)
}

async fn review(agent: &Agent, token: &str) -> Option<Caller> {
    let api: Api<TokenReview> = Api::all(agent.config.client.clone());
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: None,
        },
        ..TokenReview::default()
    };
    let answer = api
        .create(&PostParams::default(), &review)
        .await
        .inspect_err(|error| debug!(%error, "TokenReview"))
        .ok()?;
    let status = answer.status.filter(|s| s.authenticated == Some(true))?;
    let user = status.user?;
    Some(Caller {
        user: user.username.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
    })
}

async fn permitted(agent: &Agent, caller: &Caller, verb: &str, subresource: &str) -> bool {
    let api: Api<SubjectAccessReview> = Api::all(agent.config.client.clone());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(caller.user.clone()),
            groups: Some(caller.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(String::new()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(agent.config.node_name.clone()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    match api.create(&PostParams::default(), &review).await {
        Ok(answer) => answer.status.is_some_and(|s| s.allowed),
        Err(error) => {
            debug!(%error, "SubjectAccessReview");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_stand_for_subresources_of_the_node() {
        for (method, path, want) in [
            (Method::GET, "/pods", ("get", "pods")),
            (Method::GET, "/metrics/resource", ("get", "metrics")),
            (Method::GET, "/stats/summary", ("get", "stats")),
            (Method::POST, "/exec/a/b/c", ("create", "proxy")),
            (Method::GET, "/containerLogs/a/b/c", ("get", "proxy")),
        ] {
            assert_eq!(attributes(&method, path), want, "{path}");
        }
    }
}
