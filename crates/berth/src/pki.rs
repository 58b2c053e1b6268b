//! The cluster's certificates: one CA on disk, everything else issued from it at each start.
//!
//! Only what must stay the same is kept: the CA, the key that signs service account tokens and the
//! admin's bearer token. Serving and client certificates cost a millisecond each, so a start makes
//! them anew and none of them can be found expired.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use berth_controllers::certificates::{Authority, AuthorityError};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use thiserror::Error;

const CA_YEARS: i32 = 20;
const LEAF_YEARS: i32 = 3;

/// Why there are no certificates.
#[derive(Debug, Error)]
pub(crate) enum PkiError {
    /// A file can't be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that has to be there with others isn't.
    #[error(
        "{} is missing though {} is there: put it back from a backup, or remove both to make a new \
         authority (every kubeconfig of this cluster is then void)", missing.display(), present.display()
    )]
    Half {
        /// The file that is missing.
        missing: PathBuf,
        /// Its counterpart.
        present: PathBuf,
    },
    /// A file's content is not what it should be.
    #[error("{} is damaged: put it back from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: rcgen::Error,
    },
    /// A certificate can't be made.
    #[error("cannot issue the certificate for {name}")]
    Issue {
        /// Its common name.
        name: String,
        /// What rcgen said.
        source: rcgen::Error,
    },
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The certificate.
    pub(crate) cert_pem: String,
    /// The private key (PKCS#8).
    pub(crate) key_pem: String,
}

/// The cluster's authority.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate, PEM.
    pub(crate) ca_pem: String,
    /// The P-256 key that signs service account tokens, PKCS#8 PEM.
    pub(crate) service_account_key_pem: String,
    /// The bearer token of the cluster admin.
    pub(crate) admin_token: String,
}

impl Pki {
    /// Opens the authority in `dir`, or makes one.
    ///
    /// # Errors
    /// When files can't be read or written, or are damaged.
    pub(crate) fn open(dir: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(at(dir))?;
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        let (cert, key) = (read(&cert_path)?, read(&key_path)?);
        let (ca_pem, ca_key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, parse_key(&key_path, &key)?),
            (None, None) => make_ca(&cert_path, &key_path)?,
            (Some(_), None) => return Err(half(key_path, cert_path)),
            (None, Some(_)) => return Err(half(cert_path, key_path)),
        };
        let issuer =
            Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(|source| PkiError::Damaged {
                path: cert_path,
                source,
            })?;
        let sa_path = dir.join("sa.key");
        let service_account_key_pem = match read(&sa_path)? {
            Some(pem) => {
                parse_key(&sa_path, &pem)?;
                pem
            }
            None => {
                let pem = new_key("the service account key")?.serialize_pem();
                write_secret(&sa_path, &pem)?;
                pem
            }
        };
        let token_path = dir.join("admin.token");
        let admin_token = match read(&token_path)? {
            Some(token) => token.trim().to_owned(),
            None => {
                let bytes: [u8; 24] = rand::rng().random();
                let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write_secret(&token_path, &token)?;
                token
            }
        };
        Ok(Self {
            issuer,
            ca_pem,
            service_account_key_pem,
            admin_token,
        })
    }

    /// What signs the certificates of CertificateSigningRequests.
    ///
    /// # Errors
    /// When the authority can't sign.
    pub(crate) fn authority(&self) -> Result<Authority, AuthorityError> {
        Authority::new(&self.ca_pem, &self.issuer.key().serialize_pem())
    }

    /// A client certificate: `name` is the user, `groups` its groups.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        self.issue(name, groups, &[], &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A serving certificate for these names and addresses.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn serving(
        &self,
        name: &str,
        dns: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Identity, PkiError> {
        self.issue(
            name,
            &[],
            dns,
            addresses,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    fn issue(
        &self,
        name: &str,
        groups: &[&str],
        dns: &[&str],
        addresses: &[IpAddr],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, PkiError> {
        let failed = |source| PkiError::Issue {
            name: name.to_owned(),
            source,
        };
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = subject(name, groups);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        validity(&mut params, LEAF_YEARS);
        let key = new_key(name)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn subject(name: &str, groups: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// From an hour ago, since clocks differ.
fn validity(params: &mut CertificateParams, years: i32) {
    let start = Timestamp::now() - SignedDuration::from_hours(1);
    let day = |timestamp: Timestamp, years: i32| {
        let date = timestamp.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(
            i32::from(date.year()) + years,
            u8::try_from(date.month()).unwrap_or(1),
            // The 29th of February has no counterpart in most years.
            u8::try_from(date.day()).unwrap_or(1).min(28),
        )
    };
    params.not_before = day(start, 0);
    params.not_after = day(start, years);
}

fn new_key(name: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Issue {
        name: name.to_owned(),
        source,
    })
}

fn make_ca(cert_path: &Path, key_path: &Path) -> Result<(String, KeyPair), PkiError> {
    let name = "berth-ca";
    let failed = |source| PkiError::Issue {
        name: name.to_owned(),
        source,
    };
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.distinguished_name = subject(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    validity(&mut params, CA_YEARS);
    let key = new_key(name)?;
    let pem = params.self_signed(&key).map_err(failed)?.pem();
    write_secret(key_path, &key.serialize_pem())?;
    write_secret(cert_path, &pem)?;
    Ok((pem, key))
}

fn parse_key(path: &Path, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(pem).map_err(|source| PkiError::Damaged {
        path: path.to_owned(),
        source,
    })
}

fn half(missing: PathBuf, present: PathBuf) -> PkiError {
    PkiError::Half { missing, present }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError + '_ {
    |source| PkiError::File {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes a file that only its owner may read, all of it or nothing.
///
/// # Errors
/// When the system refuses.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path()).unwrap();
        let again = Pki::open(dir.path()).unwrap();
        assert_eq!(first.ca_pem, again.ca_pem);
        assert_eq!(first.admin_token, again.admin_token);
        assert_eq!(first.service_account_key_pem, again.service_account_key_pem);
        let mode = fs::metadata(dir.path().join("ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_client_certificate_carries_user_and_groups() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let identity = pki.client("system:node:n1", &["system:nodes"]).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(identity.cert_pem.as_bytes()).unwrap();
        let cert = pem.parse_x509().unwrap();
        assert_eq!(
            cert.subject().to_string(),
            "O=system:nodes, CN=system:node:n1"
        );
        let (_, ca) = x509_parser::pem::parse_x509_pem(pki.ca_pem.as_bytes()).unwrap();
        let ca = ca.parse_x509().unwrap();
        assert_eq!(cert.issuer(), ca.subject());
    }

    #[test]
    fn half_an_authority_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path()).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Pki::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.key is missing"), "{error}");
        fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        let error = Pki::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.key is damaged"), "{error}");
    }
}
