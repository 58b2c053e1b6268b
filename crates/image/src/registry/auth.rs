//! Credentials: `WWW-Authenticate` challenges, bearer tokens, basic authentication.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;

use super::hosts::Endpoint;
use crate::types::Auth;

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The first challenge in a `WWW-Authenticate` header that can be met, bearer before basic.
pub(super) fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in split(header) {
            let get = |name: &str| {
                parameters
                    .iter()
                    .find(|(n, _)| n.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                return Some(Challenge::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

/// `Scheme name=value, name="value", Scheme ...`.
fn split(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c == ',' || c.is_whitespace())
            .unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        rest = rest[end..].trim_start();
        if let Some(value) = rest.strip_prefix('=') {
            let value = value.trim_start();
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let end = value.find([',', ' ']).unwrap_or(value.len());
                    (value[..end].to_owned(), &value[end..])
                }
            };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word, value));
            }
            rest = after;
        } else if !word.is_empty() {
            found.push((word, Vec::new()));
        }
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// User name and password, decoded from `auth` where they come that way.
pub(super) fn user(auth: &Auth) -> Option<(String, String)> {
    if !auth.username.is_empty() {
        return Some((auth.username.clone(), auth.password.clone()));
    }
    let decoded = String::from_utf8(STANDARD.decode(auth.auth.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    // Docker pads the password with NULs.
    (!user.is_empty()).then(|| (user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Whether credentials are meant for an endpoint. Those that name no server are for the reference's registry;
/// a mirror gets only what names that very host and port.
pub(super) fn is_for(auth: &Auth, registry: &str, endpoint: &Endpoint) -> bool {
    let address = auth.server_address.trim();
    if endpoint.namespace.is_some() {
        return Some(authority_of(&endpoint.base)) == authority(address);
    }
    // The last endpoint is where the registry is, by its name or by the administrator's `server`.
    address.is_empty()
        || authority(address).is_some_and(|named| Some(named) == authority(registry))
        || is_docker(address) && is_docker(registry)
}

/// Host and port of `host`, `host:port` or a URL; the port is that of https where none is said.
fn authority(address: &str) -> Option<(String, Option<u16>)> {
    let url = if address.contains("://") {
        Url::parse(address)
    } else {
        Url::parse(&format!("https://{address}"))
    };
    url.ok().filter(Url::has_host).map(|url| authority_of(&url))
}

fn authority_of(url: &Url) -> (String, Option<u16>) {
    (
        url.host_str().unwrap_or_default().to_owned(),
        url.port_or_known_default(),
    )
}

/// Docker Hub has several names, and `docker login` writes down one that no image has.
fn is_docker(address: &str) -> bool {
    authority(address).is_some_and(|(host, port)| {
        port == Some(443)
            && matches!(
                host.as_str(),
                "docker.io" | "index.docker.io" | "registry-1.docker.io"
            )
    })
}

/// A token server's answer.
#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Token {
    pub(super) fn value(self) -> Option<String> {
        [self.token, self.access_token]
            .into_iter()
            .find(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosts;
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |text: &str| challenge([text].into_iter());
        assert_eq!(
            bearer(
                r#"Bearer realm="https://auth.example/token?a=b,c",service="reg \"x\"",scope="repository:a/b:pull,push""#
            ),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token?a=b,c".to_owned(),
                service: Some("reg \"x\"".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(bearer("Basic realm=\"x\""), Some(Challenge::Basic));
        assert!(
            matches!(bearer("Basic realm=x, Bearer realm=y"), Some(Challenge::Bearer { realm, .. }) if realm == "y")
        );
        for none in [
            "",
            "Negotiate",
            "Bearer",
            "=",
            "Bearer =,,=",
            "Digest realm=\"x",
        ] {
            assert_eq!(bearer(none), None, "{none}");
        }
    }

    #[test]
    fn credentials() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        let auth = Auth {
            auth: STANDARD.encode("u:p:q\0"),
            ..Auth::default()
        };
        assert_eq!(user(&auth), pair("u", "p:q"));
        assert_eq!(
            user(&Auth {
                username: "a".into(),
                password: "b".into(),
                ..auth
            }),
            pair("a", "b")
        );
        assert_eq!(user(&Auth::default()), None);
    }

    #[test]
    fn credentials_go_where_they_are_meant_to() {
        let meant = |address: &str, registry: &str| {
            let endpoints = hosts::endpoints(&[], registry).unwrap();
            let auth = Auth {
                server_address: address.to_owned(),
                ..Auth::default()
            };
            let mut meant = endpoints.iter().map(|e| is_for(&auth, registry, e));
            let first = meant.next().unwrap();
            assert!(meant.all(|other| other == first));
            first
        };
        for (address, registry) in [
            ("", "a.example"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("a.example:5000", "a.example:5000"),
            ("A.example", "a.example"),
            ("https://a.example:443/v2/", "a.example"),
            ("a.example", "a.example:443"),
            ("localhost:5000", "localhost:5000"),
        ] {
            assert!(meant(address, registry), "{address} {registry}");
        }
        for (address, registry) in [
            ("https://a.example", "b.example"),
            ("a.example:5000", "a.example"),
            ("a.example", "a.example:5000"),
            ("a.example", "a.example.evil.example"),
            ("a.example@evil.example", "a.example"),
            ("https://index.docker.io/v1/", "b.example"),
            ("docker.io:5000", "docker.io"),
            ("docker.io", "docker.io:5000"),
            ("registry-1.docker.io.evil.example", "docker.io"),
        ] {
            assert!(!meant(address, registry), "{address} {registry}");
        }
    }

    #[test]
    fn a_mirror_gets_only_its_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a.example")).unwrap();
        std::fs::write(
            dir.path().join("a.example/hosts.toml"),
            "[host.\"https://mirror.example:5000/a.example\"]",
        )
        .unwrap();
        let endpoints = hosts::endpoints(&[dir.path().to_owned()], "a.example").unwrap();
        for (address, on_mirror, on_registry) in [
            ("", false, true),
            ("a.example", false, true),
            ("mirror.example:5000", true, false),
            ("mirror.example", false, false),
        ] {
            let auth = Auth {
                server_address: address.to_owned(),
                ..Auth::default()
            };
            let meant: Vec<bool> = endpoints
                .iter()
                .map(|endpoint| is_for(&auth, "a.example", endpoint))
                .collect();
            assert_eq!(meant, [on_mirror, on_registry], "{address}");
        }
    }
}
