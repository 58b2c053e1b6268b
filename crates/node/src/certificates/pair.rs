//! A certificate with its key, as they stand in one file.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
/// More is no certificate.
const MOST_BYTES: u64 = 1 << 20;

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The file can't be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it is no certificate with its key.
    #[error("it is not a certificate with its key: {0}")]
    Content(String),
}

/// A certificate chain and the key of its first certificate, which are known to belong together.
#[derive(Clone)]
pub struct CertificatePair {
    certificate_pem: String,
    key_pem: String,
    certified: Arc<CertifiedKey>,
    common_names: Vec<String>,
    organizations: Vec<String>,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The key is not shown.
impl std::fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePair")
            .field("common_names", &self.common_names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl CertificatePair {
    /// Reads both from PEM.
    ///
    /// # Errors
    /// When they can't be read, or the key is another one's.
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, PairError> {
        let wrong = |error: &dyn std::fmt::Display| PairError::Content(error.to_string());
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| wrong(&error))?;
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| wrong(&error))?;
        let leaf = chain
            .first()
            .ok_or_else(|| wrong(&"no certificate in it"))?
            .clone();
        let provider = rustls::crypto::ring::default_provider();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| wrong(&error))?;
        let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|error| wrong(&error))?;
        let text = |all: Vec<Result<&str, _>>| {
            all.into_iter()
                .map(|part| part.map(str::to_owned))
                .collect::<Result<Vec<String>, x509_parser::error::X509Error>>()
        };
        let subject = leaf.subject();
        let common_names = text(subject.iter_common_name().map(|n| n.as_str()).collect())
            .map_err(|error| wrong(&error))?;
        let organizations = text(subject.iter_organization().map(|n| n.as_str()).collect())
            .map_err(|error| wrong(&error))?;
        let (dns, addresses) = alternative_names(&leaf);
        let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| wrong(&error));
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            common_names,
            organizations,
            dns,
            addresses,
            not_before: time(leaf.validity().not_before.timestamp())?,
            not_after: time(leaf.validity().not_after.timestamp())?,
            certified: Arc::new(certified),
        })
    }

    /// Reads a file of both; none when it isn't there.
    ///
    /// # Errors
    /// When it can't be read, or is something else.
    pub fn load(path: &Path) -> Result<Option<Self>, PairError> {
        use std::io::Read as _;
        let failed = |source| PairError::File {
            path: path.to_owned(),
            source,
        };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::new();
        file.take(MOST_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        // Each reader of PEM passes over the sections of the other.
        Self::new(&text, &text).map(Some)
    }

    /// Writes both to a file that nobody else reads, all of it or nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, path: &Path) -> Result<(), PairError> {
        let part = path.with_extension("part");
        let write = || {
            let dir = path.parent().unwrap_or_else(|| Path::new("."));
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
            // One of a start that broke off may have other rights.
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            for pem in [&self.certificate_pem, &self.key_pem] {
                file.write_all(pem.trim_end().as_bytes())?;
                file.write_all(b"\n")?;
            }
            file.sync_all()?;
            fs::rename(&part, path)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(|source| PairError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Why it is not the certificate of this node; nothing when it is.
    #[must_use]
    pub fn misfit(&self, node: &str) -> Option<String> {
        let [name] = self.common_names.as_slice() else {
            return Some("it does not have one name".to_owned());
        };
        if name.strip_prefix(USER_PREFIX) != Some(node) {
            return Some(format!("it is that of {name:?}"));
        }
        (self.organizations != [GROUP]).then(|| format!("its organization is not {GROUP}"))
    }

    /// Whether it has all these names, and no others.
    #[must_use]
    pub fn has_names(&self, dns: &[String], addresses: &[IpAddr]) -> bool {
        let same_dns = self.dns.len() == dns.len() && dns.iter().all(|d| self.dns.contains(d));
        same_dns
            && self.addresses.len() == addresses.len()
            && addresses.iter().all(|a| self.addresses.contains(a))
    }

    /// Whether it is valid now.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// From when it is valid.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The chain, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// For rustls.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

fn alternative_names(leaf: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                    addresses.push(IpAddr::from(four));
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(*bytes) {
                    addresses.push(IpAddr::from(sixteen));
                }
            }
            _ => {}
        }
    }
    (dns, addresses)
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    pub(crate) fn pair(name: &str, group: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["n1".to_owned()]).unwrap();
        let address = SanType::IpAddress([10, 0, 0, 1].into());
        params.subject_alt_names.push(address);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn it_is_kept_in_one_file_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki/client.pem");
        assert!(CertificatePair::load(&path).unwrap().is_none());
        let (certificate, key) = pair("system:node:n1", "system:nodes");
        let made = CertificatePair::new(&certificate, &key).unwrap();
        made.save(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("pki")), 0o700);
        let read = CertificatePair::load(&path).unwrap().unwrap();
        assert_eq!(read.misfit("n1"), None);
        assert!(read.has_names(&["n1".to_owned()], &[[10, 0, 0, 1].into()]));
        assert!(!read.has_names(&["n1".to_owned()], &[]));
        assert!(!read.has_names(&["n2".to_owned()], &[[10, 0, 0, 1].into()]));
        assert!(!format!("{read:?}").contains("PRIVATE"), "{read:?}");
        // another one in its place
        made.save(&path).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(CertificatePair::load(&path).is_err());
    }

    #[test]
    fn it_is_one_nodes_and_its_keys() {
        let (certificate, key) = pair("system:node:n1", "system:nodes");
        let made = CertificatePair::new(&certificate, &key).unwrap();
        assert!(made.misfit("n2").is_some());
        assert!(made.is_valid_at(Timestamp::now()));
        let (other, _) = pair("system:node:n1", "system:nodes");
        assert!(CertificatePair::new(&other, &key).is_err(), "another key");
        let (user, key) = pair("n1", "system:nodes");
        let made = CertificatePair::new(&user, &key).unwrap();
        assert!(made.misfit("n1").is_some());
        let (masters, key) = pair("system:node:n1", "system:masters");
        let made = CertificatePair::new(&masters, &key).unwrap();
        assert!(made.misfit("n1").is_some());
    }
}
