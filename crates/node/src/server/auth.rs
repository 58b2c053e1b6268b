//! Who may ask: administrators, the API server's client certificate among them, and whoever the API server's
//! own authorization lets at the node (TokenReview, SubjectAccessReview).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::caller::Caller;
use super::reply::{Body, text};
use super::reviews::Attributes;
use crate::agent::Agent;

/// The group of berth's own API server and of administrators. No user name is trusted by itself: a name can come with any
/// certificate that the CA signs and with any token, and the API server's certificate of another installation (kubeadm's
/// is in a group of its own) is judged by the API server's authorization, as everybody's.
const MASTERS: &str = "system:masters";

/// The verified client certificate's subject: CN is the user, each O a group.
pub(super) fn caller(tls: &rustls::ServerConnection) -> Option<Caller> {
    let cert = tls.peer_certificates()?.first()?;
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    let subject = cert.subject();
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().map(str::to_owned);
    // A name or group that is no text makes the certificate nobody's.
    let user = subject.iter_common_name().next().map(text)?.ok()?;
    let groups = subject
        .iter_organization()
        .map(text)
        .collect::<Result<_, _>>()
        .ok()?;
    let end = u64::try_from(cert.validity().not_after.timestamp()).ok()?;
    Some(Caller::with_certificate(
        user,
        groups,
        UNIX_EPOCH + Duration::from_secs(end),
    ))
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
    let nobody = || refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
    let caller = match (caller, bearer(request)) {
        (Some(caller), _) if caller.is_current(SystemTime::now()) => caller,
        (Some(_), _) => return Err(nobody()),
        (None, Some(token)) => match agent.reviews.caller(token).await {
            Ok(Some(caller)) => caller,
            Ok(None) | Err(_) => return Err(nobody()),
        },
        (None, None) => return Err(nobody()),
    };
    if caller.groups.iter().any(|g| g == MASTERS) {
        return Ok(());
    }
    let attributes = attributes(request.method(), path);
    let said = |word: &str| {
        format!(
            "{word} (user={}, verb={}, resource=nodes, subresource={})",
            caller.user, attributes.verb, attributes.subresource
        )
    };
    match agent.reviews.permits(&caller, &attributes).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(refuse(StatusCode::FORBIDDEN, said("Forbidden"))),
        Err(_) => Err(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            said("Authorization error"),
        )),
    }
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
///
/// What runs something in a pod, or connects to it, is a `create` by whatever method it comes: a WebSocket is always
/// opened by GET, and `get` on the Node is given for reading.
fn attributes(method: &Method, path: &str) -> Attributes {
    let first = path.trim_start_matches('/').split('/').next();
    let connects = matches!(
        first,
        Some("exec" | "attach" | "portForward" | "run" | "cri" | "checkpoint" | "debug")
    );
    let verb = match method.as_str() {
        _ if connects => "create",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    };
    let subresource = match first {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("pods" | "runningpods") => "pods",
        _ => "proxy",
    };
    Attributes { verb, subresource }
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
            (Method::GET, "/stats/starts/ns/pod", ("get", "stats")),
            (Method::POST, "/exec/a/b/c", ("create", "proxy")),
            (Method::GET, "/exec/a/b/c", ("create", "proxy")),
            (Method::HEAD, "//attach/a/b/c", ("create", "proxy")),
            (Method::GET, "/portForward/a/b", ("create", "proxy")),
            (Method::PUT, "/run/a/b/c", ("create", "proxy")),
            (Method::GET, "/containerLogs/a/b/c", ("get", "proxy")),
        ] {
            let got = attributes(&method, path);
            assert_eq!((got.verb, got.subresource), want, "{method} {path}");
        }
    }
}
