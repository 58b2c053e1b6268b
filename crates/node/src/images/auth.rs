//! Credentials for a registry out of `imagePullSecrets` (docker's config.json in a secret).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_cri_api::v1::AuthConfig;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use tracing::warn;

use crate::objects::Objects;

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// Every credential of the pod's secrets that fits the image, the most specific first.
pub(super) async fn credentials(objects: &Objects, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let refs = pod
        .spec
        .iter()
        .flat_map(|s| s.image_pull_secrets.iter().flatten());
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for r in refs {
        let secret = match objects.secret(ns, &r.name).await {
            Ok(secret) => secret,
            Err(error) => {
                warn!(secret = %r.name, %error, "image pull secret skipped");
                continue;
            }
        };
        let data = secret.data.unwrap_or_default();
        if let Some(text) = data.get(".dockerconfigjson") {
            let config: Option<DockerConfig> = understood(&r.name, &text.0);
            found.extend(fitting(config.unwrap_or_default().auths, image));
        } else if let Some(text) = data.get(".dockercfg") {
            let auths: Option<BTreeMap<String, Entry>> = understood(&r.name, &text.0);
            found.extend(fitting(auths.unwrap_or_default(), image));
        } else {
            warn!(secret = %r.name, "image pull secret skipped: it has neither .dockerconfigjson nor .dockercfg");
        }
    }
    found.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// The content of a secret; one that is not understood gives no credentials. Its text is in no log.
fn understood<T: serde::de::DeserializeOwned>(secret: &str, text: &[u8]) -> Option<T> {
    serde_json::from_slice(text)
        .inspect_err(|error| {
            let (line, column) = (error.line(), error.column());
            warn!(
                secret,
                line, column, "image pull secret skipped: it is no Docker configuration"
            );
        })
        .ok()
}

/// `registry/repository` of an image, with Docker Hub's short forms written out.
fn full_name(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

fn fitting(auths: BTreeMap<String, Entry>, image: &str) -> Vec<(usize, AuthConfig)> {
    let name = full_name(image);
    auths
        .into_iter()
        .filter_map(|(key, entry)| {
            let server = key
                .trim_start_matches("https://")
                .trim_start_matches("http://")
                .trim_end_matches('/');
            let server = match server {
                "index.docker.io/v1" | "index.docker.io" => "docker.io",
                other => other.trim_end_matches("/v1").trim_end_matches("/v2"),
            };
            matches(server, &name).then(|| (server.len(), config(&key, entry)))
        })
        .collect()
}

/// The host may hold `*` for one label; a path must be a prefix.
fn matches(server: &str, name: &str) -> bool {
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    let (have, rest) = name.split_once('/').unwrap_or((name, ""));
    let (wanted, given): (Vec<_>, Vec<_>) = (host.split('.').collect(), have.split('.').collect());
    wanted.len() == given.len()
        && wanted.iter().zip(&given).all(|(w, g)| *w == "*" || w == g)
        && (path.is_empty() || rest.starts_with(path))
}

fn config(key: &str, e: Entry) -> AuthConfig {
    let mut auth = AuthConfig {
        username: e.username,
        password: e.password,
        identity_token: e.identitytoken,
        registry_token: e.registrytoken,
        server_address: key.to_owned(),
        ..AuthConfig::default()
    };
    if auth.username.is_empty()
        && let Ok(raw) = STANDARD.decode(e.auth.trim())
        && let Ok(text) = String::from_utf8(raw)
        && let Some((user, password)) = text.split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.to_owned();
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_fit_by_host_and_path() {
        for (server, image, want) in [
            ("docker.io", "busybox", true),
            ("docker.io", "user/app:1", true),
            ("localhost:5000", "localhost:5000/a", true),
            ("localhost:5000", "localhost:5001/a", false),
            ("*.example.org", "eu.example.org/a", true),
            ("*.example.org", "example.org/a", false),
            ("r.example.org/team", "r.example.org/team/a", true),
            ("r.example.org/team", "r.example.org/other/a", false),
        ] {
            assert_eq!(matches(server, &full_name(image)), want, "{server} {image}");
        }
    }

    #[test]
    fn auth_is_user_and_password_in_base64() {
        let auths = BTreeMap::from([(
            "https://index.docker.io/v1/".to_owned(),
            Entry {
                auth: STANDARD.encode("me:p:w"),
                ..Entry::default()
            },
        )]);
        let found = fitting(auths, "busybox");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.username, "me");
        assert_eq!(found[0].1.password, "p:w");
    }
}
