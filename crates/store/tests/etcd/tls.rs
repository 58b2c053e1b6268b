//! An etcd that wants certificates.

use std::path::{Path, PathBuf};

use berth_store::etcd::Etcd;
use berth_store::{Expect, Store, StoreError, Write};
use berth_testkit::EtcdServer;
use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions, UserAddOptions,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use super::config;

/// `NAME.crt` and `NAME.key` of a new CA, and of certificates of it for these common names, in a directory.
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
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, *name);
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

#[tokio::test]
async fn one_that_may_only_read_is_told_so_by_etcd() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "ca", &["server", "root", "reader"]);
    let file = |name: &str| -> PathBuf { dir.path().join(name) };
    let flag = |flag: &str, name: &str| format!("--{flag}={}", file(name).display());
    let server = EtcdServer::start_with(&[
        &flag("cert-file", "server.crt"),
        &flag("key-file", "server.key"),
        &flag("trusted-ca-file", "ca.crt"),
        "--client-cert-auth",
        // Its own gateway would ask with the server's certificate, whose name no user may have.
        "--enable-grpc-gateway=false",
    ]);
    let of = |who: &str| {
        let mut good = config(&server, "/registry");
        good.ca_file = Some(file("ca.crt"));
        good.cert_file = Some(file(&format!("{who}.crt")));
        good.key_file = Some(file(&format!("{who}.key")));
        good
    };
    let key = "/registry/core/configmaps/n/a";
    let put = |value: &str| {
        vec![Write {
            key: key.to_owned(),
            expect: Expect::Any,
            value: Some(value.to_owned().into()),
        }]
    };
    let root = Etcd::open(&of("root")).await.unwrap();
    root.transact(put("1")).await.unwrap();
    let reader = Etcd::open(&of("reader")).await.unwrap();
    let read = |name: &str| std::fs::read(file(name)).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")))
        .identity(Identity::from_pem(read("root.crt"), read("root.key")));
    let options = ConnectOptions::new().with_tls(tls);
    let mut admin = Client::connect([&server.url], Some(options)).await.unwrap();
    for user in ["root", "reader"] {
        let no_password = UserAddOptions::new().with_no_pwd();
        admin.user_add(user, "", Some(no_password)).await.unwrap();
        admin.role_add(user).await.unwrap();
        admin.user_grant_role(user, user).await.unwrap();
    }
    let everything = Permission::read("/").with_prefix();
    admin
        .role_grant_permission("reader", everything)
        .await
        .unwrap();
    admin.auth_enable().await.unwrap();

    let found = reader.get(key).await.unwrap().unwrap();
    assert_eq!(found.value.as_ref(), b"1");
    let refused = reader.transact(put("2")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    assert!(
        refused.to_string().contains("permission denied"),
        "{refused}"
    );
    assert_eq!(root.get(key).await.unwrap().unwrap().value.as_ref(), b"1");
    root.transact(put("3")).await.unwrap();
    assert_eq!(reader.get(key).await.unwrap().unwrap().value.as_ref(), b"3");
}
