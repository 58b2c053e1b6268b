//! Which hosts serve a registry: containerd's `certs.d/<host>/hosts.toml`, Docker's certificates, defaults.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use url::Url;

use crate::error::ImageError;

/// What a host may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// What a tag stands for.
    Resolve,
    /// Content by digest.
    Pull,
}

/// One host that serves a repository's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Up to and without the repository: `https://registry-1.docker.io/v2`.
    pub(crate) base: Url,
    resolve: bool,
    pull: bool,
    /// For a mirror, the registry that it stands for.
    pub(crate) namespace: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tls: Tls,
    /// Only of use when the one before it did not understand the request: the other scheme of a host.
    pub(crate) only_unanswered: bool,
}

/// How to trust and be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and, where it is not in the same file, key.
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(crate) skip_verify: bool,
}

impl Endpoint {
    pub(crate) fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::Resolve => self.resolve,
            Capability::Pull => self.pull,
        }
    }

    /// Host and port for people.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.base.host_str().unwrap_or_default())
    }

    fn plain(base: Url) -> Self {
        Self {
            base,
            resolve: true,
            pull: true,
            namespace: None,
            headers: Vec::new(),
            tls: Tls::default(),
            only_unanswered: false,
        }
    }
}

/// The hosts to ask for `registry`, in order; the registry itself is the last.
pub(crate) fn endpoints(
    directories: &[PathBuf],
    registry: &str,
) -> Result<Vec<Endpoint>, ImageError> {
    for directory in directories {
        for name in directory_names(registry) {
            let place = directory.join(name);
            let file = place.join("hosts.toml");
            match fs::read_to_string(&file) {
                Ok(text) => return parse(&text, &file, registry),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(e) => return Err(bad(&file, e.to_string())),
            }
            if let Some(tls) = docker_certificates(&place)? {
                let mut endpoints = defaults(registry, &file)?;
                for endpoint in &mut endpoints {
                    endpoint.tls = tls.clone();
                }
                // Certificates mean TLS, on loopback too.
                endpoints.retain(|e| e.base.scheme() == "https");
                return Ok(endpoints);
            }
        }
    }
    defaults(registry, Path::new(registry))
}

/// `host_5000_` is containerd's form where a colon can't be in a name.
fn directory_names(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    names
}

/// The registry itself. On loopback plain HTTP is usual, so it is tried first, TLS after it.
fn defaults(registry: &str, file: &Path) -> Result<Vec<Endpoint>, ImageError> {
    let host = if registry == "docker.io" {
        "registry-1.docker.io"
    } else {
        registry
    };
    let url = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/v2"))
            .map_err(|e| bad(file, format!("{registry} is no host: {e}")))
    };
    let mut endpoints = vec![Endpoint::plain(url("https")?)];
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    if is_loopback(name) && port != "443" {
        endpoints[0].only_unanswered = true;
        endpoints.insert(0, Endpoint::plain(url("http")?));
    }
    Ok(endpoints)
}

fn is_loopback(host: &str) -> bool {
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    server: Option<String>,
    host: BTreeMap<String, Spanned<Host>>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<ClientFiles>,
    skip_verify: bool,
    override_path: bool,
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Many(Vec<OneOrMany>),
}

fn parse(text: &str, path: &Path, registry: &str) -> Result<Vec<Endpoint>, ImageError> {
    let file: File = toml::from_str(text).map_err(|e| bad(path, e.to_string()))?;
    let mut mirrors: Vec<_> = file.host.iter().collect();
    // In the order of the file: a TOML table has none of its own.
    mirrors.sort_by_key(|(_, host)| host.span().start);
    let mut endpoints = Vec::new();
    for (name, host) in mirrors {
        let mut endpoint = endpoint(name, host.get_ref(), path)?;
        endpoint.namespace = Some(registry.to_owned());
        endpoints.push(endpoint);
    }
    match file.server.as_deref().filter(|server| !server.is_empty()) {
        Some(server) => {
            let server = if server.trim_end_matches('/').ends_with("://docker.io") {
                "https://registry-1.docker.io"
            } else {
                server
            };
            endpoints.push(endpoint(server, &file.own, path)?);
        }
        None => {
            for mut default in defaults(registry, path)? {
                describe(&mut default, &file.own, path)?;
                endpoints.push(default);
            }
        }
    }
    Ok(endpoints)
}

fn endpoint(name: &str, host: &Host, path: &Path) -> Result<Endpoint, ImageError> {
    let with_scheme = if name.contains("://") {
        name.to_owned()
    } else {
        let bare = name.split('/').next().unwrap_or_default();
        let bare = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
        format!(
            "{}://{name}",
            if is_loopback(bare) { "http" } else { "https" }
        )
    };
    let mut base =
        Url::parse(&with_scheme).map_err(|e| bad(path, format!("{name:?} is no URL: {e}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(bad(
            path,
            format!("{name:?} is neither an http nor an https URL"),
        ));
    }
    let mut way = base.path().trim_end_matches('/').to_owned();
    if !host.override_path && !way.ends_with("/v2") {
        way.push_str("/v2");
    }
    base.set_path(&way);
    let mut endpoint = Endpoint::plain(base);
    describe(&mut endpoint, host, path)?;
    Ok(endpoint)
}

fn describe(endpoint: &mut Endpoint, host: &Host, path: &Path) -> Result<(), ImageError> {
    let place = path.parent().unwrap_or(Path::new("/"));
    if let Some(capabilities) = &host.capabilities {
        for capability in capabilities {
            if !["pull", "resolve", "push", "referrers"].contains(&capability.as_str()) {
                return Err(bad(
                    path,
                    format!("capability {capability:?} is none of pull, resolve, push"),
                ));
            }
        }
        endpoint.pull = capabilities.iter().any(|c| c == "pull");
        endpoint.resolve = capabilities.iter().any(|c| c == "resolve");
    }
    for (name, values) in &host.header {
        endpoint.headers.extend(
            values
                .all()
                .iter()
                .map(|value| (name.clone(), value.clone())),
        );
    }
    let files = |many: &OneOrMany| many.all().iter().map(|f| place.join(f)).collect::<Vec<_>>();
    endpoint.tls.ca = host.ca.as_ref().map(files).unwrap_or_default();
    endpoint.tls.skip_verify = host.skip_verify;
    endpoint.tls.client = match &host.client {
        None => Vec::new(),
        Some(ClientFiles::One(file)) => vec![(place.join(file), None)],
        Some(ClientFiles::Many(many)) => many
            .iter()
            .map(|pair| match pair.all() {
                [one] => Ok((place.join(one), None)),
                [certificate, key] if key.is_empty() => Ok((place.join(certificate), None)),
                [certificate, key] => Ok((place.join(certificate), Some(place.join(key)))),
                _ => Err(bad(
                    path,
                    "client is a file, or a list of files or of pairs of files".to_owned(),
                )),
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(())
}

/// `*.crt` are CAs, `*.cert` with `*.key` identities.
fn docker_certificates(place: &Path) -> Result<Option<Tls>, ImageError> {
    let Ok(entries) = fs::read_dir(place) else {
        return Ok(None);
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut tls = Tls::default();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => tls.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(bad(
                        &file,
                        "the key for this certificate is missing beside it".to_owned(),
                    ));
                }
                tls.client.push((file, Some(key)));
            }
            _ => {}
        }
    }
    Ok((tls != Tls::default()).then_some(tls))
}

fn bad(path: &Path, reason: String) -> ImageError {
    ImageError::HostsConfig {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
