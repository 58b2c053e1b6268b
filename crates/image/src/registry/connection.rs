//! One host: its HTTP client, its credentials, its answers.

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::auth::{self, Challenge, Token};
use super::client::{Clients, Purpose};
use super::failure::{self, Attempt, Next};
use super::guard;
use super::hosts::Endpoint;
use crate::error::ImageError;
use crate::reference::Reference;
use crate::types::Auth;

const TOKEN_MAX: u64 = 1 << 20;
/// As many as Go's client, and so containerd, follows.
const REDIRECTS_MAX: usize = 10;

pub(super) struct Connection {
    endpoint: Endpoint,
    host: String,
    reference: Reference,
    auth: Option<Auth>,
    clients: Clients,
    /// The `Authorization` that the host accepted last.
    granted: Mutex<Option<HeaderValue>>,
}

/// A request, wherever it goes.
struct Ask<'a> {
    method: Method,
    headers: &'a [(&'a str, &'a str)],
    authorization: Option<HeaderValue>,
}

/// A response that is no redirect.
struct Answer {
    response: Response,
    /// It is the endpoint's.
    own: bool,
    /// It came from this machine or its link.
    inside: bool,
}

impl Connection {
    pub(super) fn new(
        endpoint: Endpoint,
        reference: &Reference,
        auth: Option<Auth>,
    ) -> Result<Self, ImageError> {
        let host = endpoint.host();
        let auth = auth.filter(|auth| auth::is_for(auth, reference.registry(), &endpoint));
        let granted = auth.as_ref().filter(|auth| !auth.registry_token.is_empty());
        let granted = granted.and_then(|auth| secret(&format!("Bearer {}", auth.registry_token)));
        Ok(Self {
            clients: Clients::new(&endpoint)?,
            host,
            reference: reference.clone(),
            auth,
            granted: Mutex::new(granted),
            endpoint,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Asks for `/v2/<repository>/<path>`, once more with credentials if the host wants them.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, Attempt> {
        let mut url = self.endpoint.base.clone();
        url.set_path(&format!(
            "{}/{}/{path}",
            url.path().trim_end_matches('/'),
            self.reference.path()
        ));
        if let Some(namespace) = &self.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        let send = || async {
            let granted = self.granted.lock().clone();
            let ask = Ask {
                method: method.clone(),
                headers,
                authorization: granted,
            };
            self.follow(&ask, url.clone(), None).await
        };
        let answer = send().await?;
        let response = answer.response;
        // Only the registry's own challenge is met: wherever it redirects to gets no credentials.
        if response.status() != StatusCode::UNAUTHORIZED || !answer.own {
            return Ok(response);
        }
        let challenges = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|h| h.to_str().ok());
        let Some(challenge) = auth::challenge(challenges) else {
            return Ok(response);
        };
        match self.answer(&challenge, answer.inside).await? {
            Some(granted) => *self.granted.lock() = Some(granted),
            None => return Ok(response),
        }
        Ok(send().await?.response)
    }

    /// The response if its status is one of these, else what a person should know.
    pub(super) async fn expect(
        &self,
        response: Response,
        what: &str,
        fine: &[StatusCode],
    ) -> Result<Response, Attempt> {
        let status = response.status();
        if fine.contains(&status) {
            return Ok(response);
        }
        let body = self.bounded(response, 16 << 10).await.unwrap_or_default();
        Err(failure::status(
            &self.reference,
            &self.host,
            what,
            status,
            &String::from_utf8_lossy(&body),
        ))
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn bounded(
        &self,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, Attempt> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(self.failed(
                    format!("sent a document of more than {limit} bytes"),
                    Next::Host,
                ));
            }
        }
        Ok(bytes)
    }

    /// Asks for `start` and follows redirects. `Authorization` goes to the origin of `start` only, the
    /// endpoint's headers and certificate to the endpoint only; nothing leads from TLS to plain HTTP, or from
    /// elsewhere to this machine or its link. `inside` is None for the registry itself, which may be anywhere.
    async fn follow(
        &self,
        ask: &Ask<'_>,
        start: Url,
        inside: Option<bool>,
    ) -> Result<Answer, Attempt> {
        let mut url = start.clone();
        let mut inside = inside;
        for _ in 0..=REDIRECTS_MAX {
            if inside == Some(false) {
                self.check(&url)?;
            }
            let purpose = Purpose::of(&self.endpoint, &url, inside == Some(false));
            let client = self.clients.get(&self.endpoint, purpose);
            let mut request = client
                .map_err(Attempt::next)?
                .request(ask.method.clone(), url.clone());
            for (name, value) in ask.headers {
                request = request.header(*name, *value);
            }
            if let Some(authorization) = &ask.authorization
                && url.origin() == start.origin()
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = request.send().await.map_err(|e| self.broken(&e))?;
            let here =
                guard::came_from_inside(&response) || self.endpoint.is_loopback() && purpose.own();
            let Some(next) = self.redirect(&response)? else {
                if purpose.own() {
                    self.look_for_tls(&response)?;
                }
                return Ok(Answer {
                    response,
                    own: purpose.own(),
                    inside: here,
                });
            };
            (url, inside) = (next, Some(here));
        }
        Err(self.failed(
            format!("redirects more than {REDIRECTS_MAX} times"),
            Next::Host,
        ))
    }

    /// Where a response sends us, if it does.
    fn redirect(&self, response: &Response) -> Result<Option<Url>, Attempt> {
        let redirects = matches!(
            response.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else {
            return Ok(None);
        };
        let bad = |reason: &str| self.failed(format!("redirects badly: {reason}"), Next::Host);
        let location = location
            .to_str()
            .map_err(|_| bad("its Location is no text"))?;
        let mut url = response
            .url()
            .join(location)
            .map_err(|e| bad(&format!("its Location is no URL: {e}")))?;
        match (response.url().scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => {}
            ("https", "http") => {
                return Err(bad(&format!(
                    "from https to http://{}",
                    url.host_str().unwrap_or_default()
                )));
            }
            (_, other) => return Err(bad(&format!("to a URL of scheme {other:?}"))),
        }
        // A URL could bring a user and password of its own; nobody needs that.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        Ok(Some(url))
    }

    fn check(&self, url: &Url) -> Result<(), Attempt> {
        guard::check_name(url)
            .map_err(|inside| self.failed(format!("leads to this machine: {inside}"), Next::Host))
    }

    /// On loopback plain HTTP is tried first; says what servers say to it on a TLS port.
    fn look_for_tls(&self, response: &Response) -> Result<(), Attempt> {
        let is_tls_port =
            response.status() == StatusCode::BAD_REQUEST && self.endpoint.base.scheme() == "http";
        if is_tls_port && self.endpoint.is_loopback() {
            // The next endpoint is the same host with TLS.
            return Err(Attempt {
                answer: false,
                ..self.failed("wants TLS".to_owned(), Next::Host)
            });
        }
        Ok(())
    }

    /// What to send so that the host lets us in; none when there is nothing better than what it refused.
    /// `inside`: the challenge came from this machine or its link.
    async fn answer(
        &self,
        challenge: &Challenge,
        inside: bool,
    ) -> Result<Option<HeaderValue>, Attempt> {
        let user = self.auth.as_ref().and_then(auth::user);
        let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        else {
            return Ok(user.and_then(|(user, password)| basic(&user, &password)));
        };
        let mut url = Url::parse(realm).map_err(|e| {
            self.failed(
                format!("names a token server that is no URL ({realm:?}): {e}"),
                Next::Host,
            )
        })?;
        match (self.endpoint.base.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => {}
            _ => {
                return Err(self.failed(
                    format!(
                        "names a token server that is not https ({}://{}); credentials are not sent there",
                        url.scheme(),
                        url.host_str().unwrap_or_default()
                    ),
                    Next::Host,
                ));
            }
        }
        if !inside {
            self.check(&url)?;
        }
        let own_scope = format!("repository:{}:pull", self.reference.path());
        let scope = scope
            .as_deref()
            .filter(|s| !s.is_empty())
            .unwrap_or(&own_scope);
        let identity = self
            .auth
            .as_ref()
            .map(|a| a.identity_token.as_str())
            .filter(|t| !t.is_empty());
        let response = if let Some(identity) = identity {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", identity)
                .append_pair("client_id", "berth")
                .append_pair("scope", scope)
                .append_pair("service", service.as_deref().unwrap_or_default())
                .finish();
            let kind = "application/x-www-form-urlencoded";
            let purpose = Purpose::of(&self.endpoint, &url, !inside);
            let client = self.clients.get(&self.endpoint, purpose);
            // The body is the secret, so no redirect is followed.
            let request = client
                .map_err(Attempt::next)?
                .post(url)
                .header("content-type", kind)
                .body(form);
            request.send().await.map_err(|e| self.broken(&e))?
        } else {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", scope);
            }
            let ask = Ask {
                method: Method::GET,
                headers: &[],
                authorization: user.and_then(|(user, password)| basic(&user, &password)),
            };
            self.follow(&ask, url, Some(inside)).await?.response
        };
        let response = self.expect(response, "a token", &[StatusCode::OK]).await?;
        let bytes = self.bounded(response, TOKEN_MAX).await?;
        let token = serde_json::from_slice::<Token>(&bytes)
            .ok()
            .and_then(Token::value);
        let token = token.ok_or_else(|| {
            self.failed(
                "has a token server that gives no token".to_owned(),
                Next::Host,
            )
        })?;
        Ok(secret(&format!("Bearer {token}")))
    }

    fn broken(&self, error: &reqwest::Error) -> Attempt {
        failure::transport(&self.reference, &self.host, error)
    }

    fn failed(&self, detail: String, next: Next) -> Attempt {
        let error = ImageError::Registry {
            reference: self.reference.to_string(),
            registry: self.host.clone(),
            detail,
        };
        Attempt {
            error,
            next,
            answer: true,
        }
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {pair}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use reqwest::ResponseBuilderExt as _;

    use super::super::hosts;
    use super::*;

    fn connection(registry: &str) -> Connection {
        let endpoint = hosts::endpoints(&[], registry).unwrap().remove(0);
        let reference = format!("{registry}/a").parse().unwrap();
        let auth = Auth {
            username: "me".to_owned(),
            password: "pw".to_owned(),
            ..Auth::default()
        };
        Connection::new(endpoint, &reference, Some(auth)).unwrap()
    }

    fn moved(from: &str, to: &str) -> Response {
        http::Response::builder()
            .status(307)
            .url(Url::parse(from).unwrap())
            .header("location", to)
            .body("")
            .unwrap()
            .into()
    }

    #[test]
    fn a_redirect_does_not_leave_tls() {
        let connection = connection("reg.example");
        for (from, to, leads) in [
            ("https://a.example/v2/x", "/y", Some("https://a.example/y")),
            (
                "https://a.example/",
                "https://b.example/",
                Some("https://b.example/"),
            ),
            (
                "http://a.example/",
                "http://b.example/",
                Some("http://b.example/"),
            ),
            (
                "http://a.example/",
                "https://u:p@b.example/",
                Some("https://b.example/"),
            ),
            ("https://a.example:5000/", "http://a.example:5000/", None),
            ("https://a.example/", "file:///etc/passwd", None),
            ("http://a.example/", "gopher://b.example/", None),
        ] {
            match (connection.redirect(&moved(from, to)), leads) {
                (Ok(Some(url)), Some(leads)) => assert_eq!(url.as_str(), leads),
                (Err(attempt), None) => assert_eq!(attempt.next, Next::Host),
                (other, _) => panic!("{from} {to}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_token_server_is_https_and_elsewhere() {
        let connection = connection("reg.example");
        for (realm, says) in [
            (
                "http://auth.example/token",
                "not https (http://auth.example)",
            ),
            ("ftp://auth.example/token", "not https"),
            ("https://127.0.0.1:10250/token", "loopback or link-local"),
            ("https://localhost/token", "loopback or link-local"),
            (
                "https://[::ffff:169.254.169.254]/",
                "loopback or link-local",
            ),
            ("token", "no URL"),
        ] {
            let challenge = Challenge::Bearer {
                realm: realm.to_owned(),
                service: None,
                scope: None,
            };
            let attempt = connection.answer(&challenge, false).await.unwrap_err();
            let error = attempt.error.to_string();
            assert!(error.contains(says), "{realm}: {error}");
        }
    }
}
