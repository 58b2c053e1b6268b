use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "abcdef.0123456789abcdef";

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn hash(pem: &str) -> CaHash {
    let hash = ca_hash::of_pem(pem.as_bytes()).unwrap().remove(0);
    hash.parse().unwrap()
}

fn args(server: &str, hashes: Vec<CaHash>) -> JoinArgs {
    JoinArgs {
        server: Some(server.to_owned()),
        token: None,
        token_file: None,
        ca_cert_hash: hashes,
        certificate_authority: None,
    }
}

/// The same with the token in a file.
fn with_token(dir: &Path, args: JoinArgs) -> JoinArgs {
    let file = dir.join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    JoinArgs {
        token_file: Some(file),
        ..args
    }
}

/// Somebody who answers at an address with a certificate of `issuer`, and says that the cluster's CA is `ca`.
struct Stranger {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Stranger {
    async fn start(issuer: &CertifiedIssuer<'static, KeyPair>, ca: &str) -> Self {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": {
            "server": format!("https://{address}"), "certificate-authority-data": STANDARD.encode(ca)}}]});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kubeconfig": kubeconfig.to_string()}}).to_string();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut request = Vec::new();
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    let mut part = [0; 4096];
                    match stream.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => request.extend_from_slice(&part[..n]),
                    }
                }
                log.lock()
                    .push(String::from_utf8_lossy(&request).into_owned());
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{map}",
                    map.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, heard }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

async fn refused(args: &JoinArgs, root: &Path) -> String {
    let joining = tokio::time::timeout(Duration::from_secs(30), args.join(root, "n1"));
    match joining.await.expect("an end in time") {
        Ok(_) => panic!("it joined"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn who_answers_with_another_authority_is_not_given_the_token() {
    let _set = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (real, own) = (authority("kubernetes"), authority("kubernetes"));
    let both = format!("{}{}", own.pem(), real.pem());
    for ca in [own.pem(), real.pem(), both] {
        let stranger = Stranger::start(&own, &ca).await;
        let args = with_token(dir.path(), args(&stranger.url(), vec![hash(&real.pem())]));
        let root = dir.path().join("root");
        let error = refused(&args, &root).await;
        assert!(!error.contains("0123456789abcdef"), "{error}");
        let heard = stranger.heard.lock().clone();
        assert!(!heard.is_empty(), "it was asked: {error}");
        for request in heard {
            assert!(request.starts_with("GET "), "{request}");
            let lower = request.to_lowercase();
            assert!(!lower.contains("authorization"), "{request}");
            assert!(!request.contains("abcdef"), "{request}");
        }
        assert!(!root.exists(), "nothing is kept");
    }
}

#[tokio::test]
async fn nobody_is_trusted_without_a_hash_or_an_authority() {
    let _set = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let own = authority("kubernetes");
    let stranger = Stranger::start(&own, &own.pem()).await;
    let args = with_token(dir.path(), args(&stranger.url(), Vec::new()));
    let error = refused(&args, &dir.path().join("root")).await;
    assert!(error.contains("--ca-cert-hash"), "{error}");
    assert!(stranger.heard.lock().is_empty());
}

#[tokio::test]
async fn a_machine_that_has_not_joined_says_how_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = args("", Vec::new());
    none.server = None;
    let error = refused(&none, dir.path()).await;
    assert!(
        error.contains("has not joined") && error.contains("berth token create"),
        "{error}"
    );
    for url in ["http://10.0.0.1:6443", "10.0.0.1:6443", "https://"] {
        let error = refused(&args(url, Vec::new()), dir.path()).await;
        assert!(error.contains("https://HOST:PORT"), "{error}");
    }
    let file = dir.path().join("bad");
    fs::write(&file, "not-a-token-but-a-secret").unwrap();
    let mut bad = args("https://127.0.0.1:1", Vec::new());
    bad.token_file = Some(file);
    let error = refused(&bad, dir.path()).await;
    assert!(
        error.contains("ID.SECRET") && !error.contains("not-a-token"),
        "{error}"
    );
}

/// A certificate for a node, that ends so many days from now.
fn pair(node: &str, days: i64) -> CertificatePair {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node}"));
    let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |days: i64| {
        let date = now + jiff::Span::new().days(days);
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-30);
    params.not_after = day(days);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    CertificatePair::new(&certificate.pem(), &key.serialize_pem()).unwrap()
}

#[tokio::test]
async fn what_was_kept_is_used_while_it_is_good() {
    let _set = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let ca = authority("kubernetes").pem();
    let url = "https://10.0.0.1:6443";
    keep(root, url, &ca, &pair("n1", 30)).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["kubeconfig", "pki/kubelet-client-current.pem"] {
        let mode = fs::metadata(root.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut none = args(url, Vec::new());
    none.server = None;
    // no token, no server, no hash
    let joined = none.join(root, "n1").await.unwrap();
    assert_eq!(joined.ca_pem, ca);
    // what it wrote is a kubeconfig for others
    kubeconfig::load(&root.join("kubeconfig")).await.unwrap();
    // the right hash, and another address of the same cluster
    let moved = args("https://10.0.0.2:6443/", vec![hash(&ca)]);
    moved.join(root, "n1").await.unwrap();
    let (server, kept) = kubeconfig::cluster_of(&root.join("kubeconfig")).unwrap();
    assert_eq!(
        (server.as_str(), kept),
        ("https://10.0.0.2:6443", ca.clone())
    );

    let why = |args: &JoinArgs, node: &str| args.kept(root, node).unwrap().err();
    let other = args(url, vec![hash(&authority("other").pem())]);
    assert!(
        why(&other, "n1")
            .unwrap()
            .contains("another certificate authority")
    );
    assert!(
        why(&none, "n2")
            .unwrap()
            .contains("not that of node \"n2\"")
    );
    keep(root, url, &ca, &pair("n1", -1)).unwrap();
    assert!(why(&none, "n1").unwrap().contains("was valid"));
    fs::write(root.join("pki/kubelet-client-current.pem"), "x").unwrap();
    assert!(why(&none, "n1").unwrap().contains("cannot be used"));
    fs::remove_file(root.join("pki/kubelet-client-current.pem")).unwrap();
    assert!(why(&none, "n1").unwrap().contains("is missing"));
}
