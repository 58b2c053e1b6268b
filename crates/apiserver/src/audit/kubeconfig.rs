//! Where a webhook for audit events is, and how it is spoken to: a file in the form of a kubeconfig.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use serde::Deserialize;

/// What is wrong with such a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// It is no kubeconfig.
    #[error("it is not a kubeconfig: {0}")]
    Malformed(String),
    /// It names what it doesn't have.
    #[error("it has no {what} {name:?}")]
    Missing {
        /// What: context, cluster, user.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The server's URL can't be used.
    #[error("server {0:?} is not a URL with http or https")]
    Server(String),
    /// A way to authenticate, or to be careless, that isn't there.
    #[error("{0} is not supported here")]
    Unsupported(&'static str),
    /// What it refers to can't be used.
    #[error("{field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named<ClusterOf>>,
    #[serde(default)]
    users: Option<Vec<Named<UserOf>>>,
    #[serde(default)]
    contexts: Vec<Named<ContextOf>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    of: T,
}

#[derive(Deserialize)]
struct ClusterOf {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct UserOf {
    #[serde(default)]
    user: User,
}

#[derive(Deserialize)]
struct ContextOf {
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// How requests say who sends them.
#[derive(Clone, Debug, Default)]
pub(super) enum Authorization {
    /// Not at all, or by a certificate.
    #[default]
    None,
    /// By a header.
    Header(HeaderValue),
    /// By the token that a file has at the moment.
    TokenFile(PathBuf),
}

/// A server and how it is spoken to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    /// CAs of the server's certificate, PEM; those of the machine when there are none.
    pub(super) ca: Option<Vec<u8>>,
    /// Whose certificate it has to show, where that isn't the URL's host.
    pub(super) server_name: Option<String>,
    /// Certificate and key, PEM.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) authorization: Authorization,
}

fn find<'a, T>(
    all: &'a [Named<T>],
    what: &'static str,
    name: &str,
) -> Result<&'a T, KubeconfigError> {
    let found = all.iter().find(|one| one.name == name);
    found
        .map(|one| &one.of)
        .ok_or_else(|| KubeconfigError::Missing {
            what,
            name: name.to_owned(),
        })
}

/// Data that is in the file, or in another beside it.
fn data(
    field: &'static str,
    inline: Option<&String>,
    path: Option<&PathBuf>,
    dir: &Path,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    let failed = |why: String| KubeconfigError::Field { field, why };
    match (inline.filter(|text| !text.is_empty()), path) {
        (Some(text), _) => {
            let decoded = STANDARD.decode(text.trim());
            decoded.map(Some).map_err(|error| failed(error.to_string()))
        }
        (None, Some(path)) if !path.as_os_str().is_empty() => {
            let path = dir.join(path);
            let read = std::fs::read(&path);
            read.map(Some)
                .map_err(|error| failed(format!("{}: {error}", path.display())))
        }
        (None, Some(_) | None) => Ok(None),
    }
}

impl Target {
    /// Reads the text of a file that is in a directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, dir: &Path) -> Result<Self, KubeconfigError> {
        let file: File = serde_saphyr::from_str(text)
            .map_err(|error| KubeconfigError::Malformed(error.to_string()))?;
        let context = match (file.current_context.as_str(), file.contexts.as_slice()) {
            ("", [only]) => &only.of.context,
            (name, all) => &find(all, "context", name)?.context,
        };
        let cluster = &find(&file.clusters, "cluster", &context.cluster)?.cluster;
        let none = User::default();
        let users = file.users.as_deref().unwrap_or_default();
        let user = match context.user.as_str() {
            "" => &none,
            name => &find(users, "user", name)?.user,
        };
        for (is_there, what) in [
            (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify"),
            (cluster.proxy_url.is_some(), "proxy-url"),
            (user.exec.is_some(), "exec"),
            (user.auth_provider.is_some(), "auth-provider"),
        ] {
            if is_there {
                return Err(KubeconfigError::Unsupported(what));
            }
        }
        let uri: Option<Uri> = cluster.server.parse().ok();
        let uri = uri
            .filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
            })
            .ok_or_else(|| KubeconfigError::Server(cluster.server.clone()))?;
        let certificate = data(
            "client-certificate",
            user.client_certificate_data.as_ref(),
            user.client_certificate.as_ref(),
            dir,
        )?;
        let key = data(
            "client-key",
            user.client_key_data.as_ref(),
            user.client_key.as_ref(),
            dir,
        )?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(KubeconfigError::Field {
                    field: "client-certificate",
                    why: "a certificate and its key are only of use together".to_owned(),
                });
            }
        };
        Ok(Self {
            uri,
            ca: data(
                "certificate-authority",
                cluster.certificate_authority_data.as_ref(),
                cluster.certificate_authority.as_ref(),
                dir,
            )?,
            server_name: cluster
                .tls_server_name
                .clone()
                .filter(|name| !name.is_empty()),
            identity,
            authorization: authorization(user, dir)?,
        })
    }
}

fn authorization(user: &User, dir: &Path) -> Result<Authorization, KubeconfigError> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(path) = &user.token_file {
        return Ok(Authorization::TokenFile(dir.join(path)));
    }
    let text = match (filled(&user.token), filled(&user.username)) {
        (Some(token), _) => bearer(&token),
        (None, Some(name)) => {
            let password = user.password.as_deref().unwrap_or_default();
            let pair = STANDARD.encode(format!("{name}:{password}"));
            header(&format!("Basic {pair}"))
        }
        (None, None) => return Ok(Authorization::None),
    };
    text.map(Authorization::Header)
        .ok_or(KubeconfigError::Field {
            field: "token",
            why: "it has characters that no header may have".to_owned(),
        })
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A token as a header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    header(&format!("Bearer {}", token.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(cluster: &str, user: &str) -> Result<Target, KubeconfigError> {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        );
        Target::parse(&text, Path::new("/nowhere"))
    }

    const SERVER: &str = "server: 'https://audit.example.com:8443/events'";

    #[test]
    fn a_kubeconfig_says_where_and_how() {
        let target = parse(SERVER, "token: abc").unwrap();
        assert_eq!(target.uri.path(), "/events");
        assert!(
            matches!(target.authorization, Authorization::Header(value) if value == "Bearer abc")
        );
        let target = parse(SERVER, "username: a, password: b").unwrap();
        assert!(
            matches!(target.authorization, Authorization::Header(value) if value == "Basic YTpi")
        );
        let target = parse(SERVER, "tokenFile: t").unwrap();
        assert!(
            matches!(target.authorization, Authorization::TokenFile(path) if path == Path::new("/nowhere/t"))
        );
        let ca = format!("{SERVER}, certificate-authority-data: eA==, tls-server-name: a");
        let target = parse(&ca, "").unwrap();
        assert_eq!(
            (target.ca.as_deref(), target.server_name.as_deref()),
            (Some(&b"x"[..]), Some("a"))
        );
    }

    #[test]
    fn a_file_without_users_and_current_context_will_do() {
        let text = "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                    contexts: [{name: x, context: {cluster: c, user: ''}}]\n";
        let target = Target::parse(text, Path::new("/")).unwrap();
        assert!(matches!(target.authorization, Authorization::None));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (cluster, user, part) in [
            ("server: 'audit.example.com'", "", "is not a URL"),
            ("server: 'ftp://a'", "", "is not a URL"),
            (
                "server: 'https://a', insecure-skip-tls-verify: true",
                "",
                "insecure-skip-tls-verify",
            ),
            (
                "server: 'https://a', proxy-url: 'http://b'",
                "",
                "proxy-url",
            ),
            (SERVER, "exec: {command: a}", "exec"),
            (SERVER, "auth-provider: {name: a}", "auth-provider"),
            (SERVER, "client-certificate-data: eA==", "together"),
            (SERVER, "client-certificate: gone", "/nowhere/gone"),
            (SERVER, "token: \"a\\nb\"", "header"),
            ("certificate-authority: x", "", "server"),
        ] {
            let why = parse(cluster, user).map(|_| ()).unwrap_err().to_string();
            assert!(why.contains(part), "{cluster} {user}: {why}");
        }
        let missing =
            "clusters: []\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: y\n";
        let why = Target::parse(missing, Path::new("/")).unwrap_err();
        assert_eq!(why.to_string(), "it has no context \"y\"");
    }
}
