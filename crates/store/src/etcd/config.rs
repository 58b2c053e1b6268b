//! Where the etcd is and how it is reached: `--etcd-servers` and its like, with the stock server's meaning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

/// How often an unused connection is tested while something waits on it. etcd closes connections that are tested more
/// often than every five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// How long the answer to such a test may take.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The roots that TLS is verified with when no file is named, as Debian and its like keep them.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where the etcd is, and what of it is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Client URLs of its members, all `http://` or all `https://` (`--etcd-servers`).
    pub endpoints: Vec<String>,
    /// Before every key (`--etcd-prefix`); takes the place of the `/registry` that the keys begin with.
    pub prefix: String,
    /// The CA that the members' certificates are of (`--etcd-cafile`); none takes the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to the members (`--etcd-certfile`).
    pub cert_file: Option<PathBuf>,
    /// Its key (`--etcd-keyfile`).
    pub key_file: Option<PathBuf>,
}

/// What is wrong with an [`EtcdConfig`]. Nothing was asked of any etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdConfigError {
    /// No member is named.
    #[error("--etcd-servers: at least one URL is needed, e.g. https://127.0.0.1:2379")]
    NoServers,
    /// Not a URL of an etcd.
    #[error(
        "--etcd-servers {url:?}: must be http://HOST:PORT or https://HOST:PORT, without a path"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// Both kinds of URL.
    #[error(
        "--etcd-servers: http:// and https:// URLs are mixed; what is written would be readable on the way to some \
         members. Name all with https://"
    )]
    Mixed,
    /// TLS files without TLS.
    #[error(
        "{flag} needs https:// URLs in --etcd-servers: with http:// nothing is encrypted and no certificate is shown"
    )]
    WithoutTls {
        /// The flag.
        flag: &'static str,
    },
    /// Half a client certificate.
    #[error("--etcd-certfile and --etcd-keyfile go together: {missing} is missing")]
    HalfCertificate {
        /// The flag that is missing.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("{flag}: cannot read {path}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{flag}: {path} holds no {what} in PEM")]
    NotPem {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
    },
    /// The prefix cannot be one.
    #[error("--etcd-prefix {prefix:?}: must be a path of visible ASCII, e.g. /registry")]
    Prefix {
        /// What was given.
        prefix: String,
    },
}

impl EtcdConfig {
    /// For the etcd at these URLs, without TLS files.
    #[must_use]
    pub fn new(endpoints: &[String], prefix: &str) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            prefix: prefix.to_owned(),
            ..Self::default()
        }
    }

    /// The prefix without a slash at its end and with one before it; empty for the whole etcd.
    ///
    /// # Errors
    /// For what cannot be part of a key that people read.
    pub(super) fn root(&self) -> Result<String, EtcdConfigError> {
        let trimmed = self.prefix.trim_matches('/');
        if trimmed.is_empty() {
            return Ok(String::new());
        }
        let plain = trimmed.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain
            || trimmed
                .split('/')
                .any(|part| part.is_empty() || part == "..")
        {
            return Err(EtcdConfigError::Prefix {
                prefix: self.prefix.clone(),
            });
        }
        Ok(format!("/{trimmed}"))
    }

    /// The options of a connection, after a look at all of the configuration.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn connect_options(&self) -> Result<ConnectOptions, EtcdConfigError> {
        let options = ConnectOptions::new()
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_ANSWER)
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(CONNECT_TIMEOUT)
            // A member that is cut off from the others says so, and doesn't leave a watch open in which nothing happens.
            .with_require_leader(true);
        if self.is_encrypted()? {
            return Ok(options.with_tls(self.tls()?));
        }
        let files = [
            ("--etcd-cafile", &self.ca_file),
            ("--etcd-certfile", &self.cert_file),
            ("--etcd-keyfile", &self.key_file),
        ];
        match files.iter().find(|(_, file)| file.is_some()) {
            Some((flag, _)) => Err(EtcdConfigError::WithoutTls { flag }),
            None => Ok(options),
        }
    }

    fn is_encrypted(&self) -> Result<bool, EtcdConfigError> {
        let mut encrypted = None;
        for url in &self.endpoints {
            let (tls, host) = if let Some(host) = url.strip_prefix("https://") {
                (true, host)
            } else if let Some(host) = url.strip_prefix("http://") {
                (false, host)
            } else {
                return Err(EtcdConfigError::Url { url: url.clone() });
            };
            let host = host.strip_suffix('/').unwrap_or(host);
            let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
            if host.is_empty() || host.contains(odd) {
                return Err(EtcdConfigError::Url { url: url.clone() });
            }
            if *encrypted.get_or_insert(tls) != tls {
                return Err(EtcdConfigError::Mixed);
            }
        }
        encrypted.ok_or(EtcdConfigError::NoServers)
    }

    fn tls(&self) -> Result<TlsOptions, EtcdConfigError> {
        let system = PathBuf::from(SYSTEM_ROOTS);
        let ca = self.ca_file.as_ref().unwrap_or(&system);
        let ca = read_pem("--etcd-cafile", ca, "certificate", "CERTIFICATE-----")?;
        let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
        let missing = |missing| EtcdConfigError::HalfCertificate { missing };
        match (&self.cert_file, &self.key_file) {
            (None, None) => Ok(tls),
            (Some(_), None) => Err(missing("--etcd-keyfile")),
            (None, Some(_)) => Err(missing("--etcd-certfile")),
            (Some(cert), Some(key)) => {
                let cert = read_pem("--etcd-certfile", cert, "certificate", "CERTIFICATE-----")?;
                let key = read_pem("--etcd-keyfile", key, "private key", "PRIVATE KEY-----")?;
                Ok(tls.identity(Identity::from_pem(cert, key)))
            }
        }
    }
}

fn read_pem(
    flag: &'static str,
    path: &Path,
    what: &'static str,
    marker: &str,
) -> Result<Vec<u8>, EtcdConfigError> {
    let path = path.to_owned();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(EtcdConfigError::File { flag, path, source }),
    };
    let found = bytes.windows(marker.len()).any(|w| w == marker.as_bytes());
    if found {
        Ok(bytes)
    } else {
        Err(EtcdConfigError::NotPem { flag, path, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &[&str]) -> EtcdConfig {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        EtcdConfig::new(&urls, "/registry")
    }

    fn refusal(config: &EtcdConfig) -> String {
        match config.connect_options() {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert_eq!(
            refusal(&of(&["http://10.0.0.1:2379", "http://[::1]:2379/"])),
            ""
        );
        assert!(refusal(&of(&[])).contains("at least one URL"));
        for url in [
            "10.0.0.1:2379",
            "unix:///etcd",
            "http://",
            "http://a/b",
            "http://u@a",
        ] {
            assert!(refusal(&of(&[url])).contains("must be http://"), "{url}");
        }
        assert!(refusal(&of(&["http://a:1", "https://b:1"])).contains("mixed"));
        let mut plain = of(&["http://a:1"]);
        plain.ca_file = Some("/ca".into());
        assert!(refusal(&plain).contains("--etcd-cafile needs https://"));
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut half = of(&["https://a:1"]);
        half.ca_file = file("ca", "-----BEGIN CERTIFICATE-----");
        half.cert_file = half.ca_file.clone();
        assert!(refusal(&half).contains("--etcd-keyfile is missing"));
        half.key_file = half.ca_file.clone();
        assert!(refusal(&half).contains("holds no private key"));
        half.key_file = Some(dir.path().join("absent"));
        assert!(refusal(&half).contains("cannot read"));
    }

    #[test]
    fn prefixes_are_paths() {
        let root = |prefix: &str| EtcdConfig::new(&[], prefix).root();
        for (given, root_) in [
            ("/registry", "/registry"),
            ("registry/", "/registry"),
            ("/a/b", "/a/b"),
        ] {
            assert_eq!(root(given).unwrap(), root_);
        }
        assert_eq!(root("/").unwrap(), "");
        for given in ["/a b", "/a//b", "/../a", "/\u{e9}", "/a\n"] {
            assert!(root(given).is_err(), "{given:?}");
        }
    }
}
