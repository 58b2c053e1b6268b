//! CAs as people tell each other of them: by the hash of their public key, in kubeadm's form (`sha256:` and 64 hexadecimal digits).

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The hash of a certificate's public key; none when it can't be read.
#[must_use]
pub fn of_certificate(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let key = certificate.public_key().raw;
    Some(format!("sha256:{}", hex::encode(Sha256::digest(key))))
}

/// The hashes of all certificates of a PEM file; none when one of them can't be read, or there is none.
#[must_use]
pub fn of_pem(pem: &[u8]) -> Option<Vec<String>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()?;
    let hashes: Option<Vec<String>> = all.iter().map(|one| of_certificate(one)).collect();
    hashes.filter(|hashes| !hashes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with openssl 3; the hash is what kubeadm's documentation says to compute:
    /// `openssl x509 -pubkey -in ca.crt | openssl pkey -pubin -outform der | sha256sum`.
    const CA: &str = "-----BEGIN CERTIFICATE-----\n\
                      MIIBfzCCASWgAwIBAgIUDQb44dgctKvuwIsr9VWQ9lUitPEwCgYIKoZIzj0EAwIw\n\
                      FTETMBEGA1UEAwwKa3ViZXJuZXRlczAeFw0yNjExMjkyMzMxNDlaFw00NjExMjQy\n\
                      MzMxNDlaMBUxEzARBgNVBAMMCmt1YmVybmV0ZXMwWTATBgcqhkjOPQIBBggqhkjO\n\
                      PQMBBwNCAATmnZAN6k2GoVCSyMq5/scpC4vLP64tOiphTUq04P5qqfDipfmjeE3Z\n\
                      BZ8wAwoqs5ZH0/vmoJeXzLifRjPCXkF7o1MwUTAdBgNVHQ4EFgQUA8xZWs5F8dgx\n\
                      t2sIyG3/9o+C1lowHwYDVR0jBBgwFoAUA8xZWs5F8dgxt2sIyG3/9o+C1lowDwYD\n\
                      VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBPvdhoYCZ/OtqhCFbo4CPE\n\
                      08ZWZJ9Pdw8V8OIMYRguYQIhAN2szyzs5mVm7veLPCrteTZzAo1yEYbMey5Ph3OR\n\
                      xe4v\n\
                      -----END CERTIFICATE-----\n";
    const HASH: &str = "sha256:2bb79cd97a8d5962f135fe8f95045856ab56637fd619468f4545c639759884cb";

    #[test]
    fn the_hash_is_kubeadms() {
        assert_eq!(of_pem(CA.as_bytes()), Some(vec![HASH.to_owned()]));
        let twice = format!("{CA}{CA}");
        assert_eq!(of_pem(twice.as_bytes()).unwrap(), [HASH, HASH]);
        assert_eq!(of_pem(b""), None);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(of_pem(format!("{CA}{broken}").as_bytes()), None);
    }
}
