//! An etcd that wants certificates.

use std::path::{Path, PathBuf};

use berth_store::Store;
use berth_store::etcd::Etcd;
use berth_testkit::EtcdServer;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use super::config;

/// `NAME.crt` and `NAME.key` of a new CA, and of certificates of it, in a directory.
fn certificates(dir: &Path, ca: &str, names: &[&str]) {
    let save = |name: String, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    save(format!("{ca}.crt"), issuer.pem());
    for name in names {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        save(format!("{name}.crt"), certificate.pem());
        save(format!("{name}.key"), key.serialize_pem());
    }
}

#[tokio::test]
async fn certificates_are_shown_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "ca", &["server", "client"]);
    certificates(dir.path(), "other", &["stranger"]);
    let file = |name: &str| -> PathBuf { dir.path().join(name) };
    let flag = |flag: &str, name: &str| format!("--{flag}={}", file(name).display());
    let server = EtcdServer::start_with(&[
        &flag("cert-file", "server.crt"),
        &flag("key-file", "server.key"),
        &flag("trusted-ca-file", "ca.crt"),
        "--client-cert-auth",
    ]);
    let mut good = config(&server, "/registry");
    good.ca_file = Some(file("ca.crt"));
    good.cert_file = Some(file("client.crt"));
    good.key_file = Some(file("client.key"));
    let store = Etcd::open(&good).await.unwrap();
    store.revision().await.unwrap();

    let mut without = good.clone();
    (without.cert_file, without.key_file) = (None, None);
    let mut stranger = good.clone();
    stranger.cert_file = Some(file("stranger.crt"));
    stranger.key_file = Some(file("stranger.key"));
    let mut elsewhere = good.clone();
    elsewhere.ca_file = Some(file("other.crt"));
    let refused = [without, stranger, elsewhere].map(|config| {
        tokio::spawn(async move {
            Etcd::open(&config)
                .await
                .map(|_| ())
                .unwrap_err()
                .to_string()
        })
    });
    for refused in refused {
        let error = refused.await.unwrap();
        assert!(error.contains("cannot use etcd at https://"), "{error}");
    }
}
