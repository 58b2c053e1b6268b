//! Against Debian's docker-registry, and against a small server that misbehaves.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use self::debian::{DebianRegistry, Setup};
use self::fake::{Answer, Fake, serve};
use crate::testing::{Layer, Packing, TestImage, TestStore, silent};
use crate::{
    Auth, Digest, ErrorKind, Image, ImageError, Progress, ProgressFn, PullRequest, StoreOptions,
};

mod debian;
mod fake;
mod killed;
mod limits;
mod trust;

fn image() -> TestImage {
    let layers = [
        (
            Layer::new().dir("d", 0o755).file("d/a", "tar"),
            Packing::Tar,
        ),
        (Layer::new().file("b", "gzip"), Packing::Gzip),
        (Layer::new().file("c", "zstd"), Packing::Zstd),
    ];
    TestImage::packed(&layers, "amd64")
}

/// One large layer that does not compress.
fn large() -> TestImage {
    large_from(0)
}

fn large_from(first: u32) -> TestImage {
    let data: Vec<u8> = (first..first + 60_000)
        .flat_map(|n| Digest::of(&n.to_le_bytes()).hex().as_bytes()[..32].to_vec())
        .collect();
    TestImage::packed(
        &[(
            Layer::new().file("f", &String::from_utf8(data).unwrap()),
            Packing::Tar,
        )],
        "amd64",
    )
}

fn noting() -> (ProgressFn, Arc<Mutex<Vec<Progress>>>) {
    let notes: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let into = notes.clone();
    (Arc::new(move |progress| into.lock().push(progress)), notes)
}

async fn pull(test: &TestStore, reference: &str) -> Result<Image, ImageError> {
    test.store.pull(PullRequest::new(reference), silent()).await
}

fn with_hosts(registry: &str, toml: &str) -> (TestStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(registry)).unwrap();
    fs::write(dir.path().join(registry).join("hosts.toml"), toml).unwrap();
    let options = StoreOptions {
        hosts_dirs: vec![dir.path().to_owned()],
        ..StoreOptions::default()
    };
    (TestStore::with(options), dir)
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let registry = DebianRegistry::start(&Setup::default());
    let image = image();
    let reference = registry.push("a/x", "1", &image).await;
    let test = TestStore::new();
    let (progress, notes) = noting();
    let pulled = test
        .store
        .pull(PullRequest::new(&reference), progress)
        .await
        .unwrap();
    assert_eq!(
        (&pulled.id, pulled.repo_tags.as_slice()),
        (&image.id(), [reference.clone()].as_slice())
    );
    let digest = format!("{}/a/x@{}", registry.address, Digest::of(&image.manifest));
    assert_eq!(pulled.repo_digests, std::slice::from_ref(&digest));
    assert!(matches!(notes.lock().last(), Some(Progress::Done { id }) if *id == image.id()));
    let root = test.target("root");
    test.store.prepare("c", &reference).unwrap();
    test.store.mount("c", &root).unwrap();
    for (name, says) in [("d/a", "tar"), ("b", "gzip"), ("c", "zstd")] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), says);
    }
    test.store.remove_snapshot("c").unwrap();

    test.store.remove(&reference).unwrap();
    let by_digest = pull(&test, &digest).await.unwrap();
    assert_eq!((by_digest.id, by_digest.repo_tags.len()), (image.id(), 0));
    let again = pull(&test, &reference).await.unwrap();
    assert_eq!(
        again.repo_tags,
        [reference],
        "the tag joins the image that is here"
    );
    assert!(test.names("ingest").is_empty() && test.names("blobs/sha256").len() == 2);
}

#[tokio::test]
async fn the_index_decides_by_platform() {
    let registry = DebianRegistry::start(&Setup::default());
    let (ours, other) = (
        image(),
        TestImage::packed(&[(Layer::new().file("a", "arm"), Packing::Gzip)], "arm64"),
    );
    for (tag, image) in [("ours", &ours), ("other", &other)] {
        registry.push("a/x", tag, image).await;
    }
    let index = |images: &[(&TestImage, &str)]| {
        let manifests: Vec<_> = images
            .iter()
            .map(|(image, arch)| image.descriptor(None, arch))
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests})
            .to_string()
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let both = index(&[(&other, "arm64"), (&ours, "amd64")]);
    let reference = registry
        .push_manifest("a/x", "both", both.as_bytes(), kind)
        .await;
    let test = TestStore::new();
    let pulled = pull(&test, &reference).await.unwrap();
    assert_eq!(pulled.id, ours.id());
    assert_eq!(
        pulled.repo_digests,
        [format!(
            "{}/a/x@{}",
            registry.address,
            Digest::of(both.as_bytes())
        )]
    );
    let arm = PullRequest {
        platform: Some("linux/arm64".parse().unwrap()),
        ..PullRequest::new(&reference)
    };
    assert_eq!(test.store.pull(arm, silent()).await.unwrap().id, other.id());
    let reference = registry
        .push_manifest("a/x", "arm", index(&[(&other, "arm64")]).as_bytes(), kind)
        .await;
    let error = pull(&test, &reference).await.unwrap_err();
    assert!(
        error.to_string().contains("manifest for linux/arm64 only"),
        "{error}"
    );
}

#[tokio::test]
async fn a_password_is_needed_and_given() {
    let registry = DebianRegistry::start(&Setup {
        password: true,
        ..Setup::default()
    });
    let reference = registry.push("a/x", "1", &image()).await;
    let test = TestStore::new();
    let error = pull(&test, &reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("pull secret"), "{error}");
    let request = |password: &str| {
        let auth = Auth {
            username: "user".into(),
            password: password.into(),
            ..Auth::default()
        };
        PullRequest {
            auth: Some(auth),
            ..PullRequest::new(&reference)
        }
    };
    let error = test
        .store
        .pull(request("wrong"), silent())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    test.store.pull(request("secret"), silent()).await.unwrap();
    assert!(
        pull(&test, &reference).await.is_err(),
        "what is here does not open it to everybody"
    );
}

#[tokio::test]
async fn tls_with_its_own_ca() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(ca, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    let path = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (
        path("cert.pem", server.pem()),
        path("key.pem", server_key.serialize_pem()),
    );
    let ca = path("ca.pem", ca_certificate.pem());
    let registry = DebianRegistry::start(&Setup {
        tls: Some((&certificate, &key)),
        ..Setup::default()
    });
    let reference = registry.push("a/x", "1", &image()).await;
    let error = pull(&TestStore::new(), &reference).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("certificate that is not trusted"),
        "{error}"
    );
    for trust in [
        format!("ca = {:?}", ca.display()),
        "skip_verify = true".to_owned(),
    ] {
        let toml = format!("server = \"https://{}\"\n{trust}\n", registry.address);
        let (test, _hosts) = with_hosts(&registry.address, &toml);
        pull(&test, &reference).await.unwrap();
    }
    let (test, _hosts) = with_hosts(
        &registry.address,
        &format!("server = \"http://{}\"\n", registry.address),
    );
    assert!(
        pull(&test, &reference).await.is_err(),
        "plain HTTP where TLS is spoken"
    );
}

#[tokio::test]
async fn what_broke_off_goes_on() {
    let image = large();
    let (served, cuts) = (image.clone(), AtomicUsize::new(0));
    let layer = Digest::of(&image.layers[0].1).to_string();
    let wanted = layer.clone();
    let fake = Fake::start(move |request| {
        let mut answer = serve(&served, request);
        if request.target.contains(&wanted) && cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            answer.cut = Some(answer.body.len() / 2);
        }
        answer
    })
    .await;
    let test = TestStore::new();
    let (progress, notes) = noting();
    let pulled = test
        .store
        .pull(PullRequest::new(format!("{}/x:1", fake.address)), progress)
        .await
        .unwrap();
    assert_eq!(pulled.id, image.id());
    let size = image.layers[0].1.len();
    let ranges: Vec<_> = fake
        .seen(&layer)
        .iter()
        .map(|r| r.headers.get("range").cloned())
        .collect();
    let half = size / 2;
    assert_eq!(
        ranges,
        [
            None,
            Some(format!("bytes={half}-")),
            Some(format!("bytes={}-", half + (size - half) / 2))
        ]
    );
    assert_eq!(
        notes
            .lock()
            .iter()
            .filter(|p| matches!(p, Progress::Retrying { .. }))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_part_of_an_earlier_process_goes_on_even_if_it_is_wrong() {
    let image = large();
    let blob = image.layers[0].1.clone();
    for (left, requests) in [
        (blob[..1000].to_vec(), 1),
        (vec![0; 1000], 2),
        (blob.clone(), 0),
        (vec![1; blob.len() + 1], 1),
    ] {
        let served = image.clone();
        let fake = Fake::start(move |request| serve(&served, request)).await;
        let test = TestStore::new();
        let part = test
            .store
            .root()
            .join("ingest")
            .join(format!("{}.part", Digest::of(&blob).hex()));
        fs::write(&part, &left).unwrap();
        pull(&test, &format!("{}/x:1", fake.address)).await.unwrap();
        assert_eq!(fake.seen(Digest::of(&blob).as_str()).len(), requests);
        assert!(!part.exists());
    }
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_all_again() {
    let image = large();
    let (served, cuts) = (image.clone(), AtomicUsize::new(0));
    let layer = Digest::of(&image.layers[0].1).to_string();
    let fake = Fake::start(move |request| {
        let mut request = request.clone();
        request.headers.remove("range");
        let mut answer = serve(&served, &request);
        if request.target.contains(&layer) && cuts.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.cut = Some(1000);
        }
        answer
    })
    .await;
    assert_eq!(
        pull(&TestStore::new(), &format!("{}/x:1", fake.address))
            .await
            .unwrap()
            .id,
        image.id()
    );
}

#[tokio::test]
async fn lies_are_found_out() {
    let image = large();
    for lie in ["manifest", "layer", "long"] {
        let served = image.clone();
        let fake = Fake::start(move |request| {
            let mut answer = serve(&served, request);
            match lie {
                "manifest" if request.target.contains("manifests") => answer.body.push(b' '),
                "layer" if request.target.contains("blobs") => answer.body[20] ^= 1,
                "long" if request.target.contains("blobs") => answer.body.push(0),
                _ => {}
            }
            answer
        })
        .await;
        let test = TestStore::new();
        let error = pull(&test, &format!("{}/x:1", fake.address))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{lie}: {error}");
        assert!(test.store.list().unwrap().is_empty());
        test.store.gc().unwrap();
        assert!(
            test.names("layers").is_empty() && test.names("blobs/sha256").is_empty(),
            "{lie}"
        );
    }
}

#[tokio::test]
async fn a_token_is_fetched_with_the_credentials() {
    let image = image();
    let served = image.clone();
    let tokens =
        Fake::start(
            |request| match request.headers.get("authorization").map(String::as_str) {
                // base64("me:pw")
                Some("Basic bWU6cHc=") => Answer::ok(br#"{"token":"T0"}"#),
                _ => Answer::status(401),
            },
        )
        .await;
    let realm = format!("http://{}/token", tokens.address);
    let fake = Fake::start(move |request| {
        match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer T0") => serve(&served, request),
            _ => Answer {
                headers: vec![(
                    "www-authenticate",
                    format!(
                        "Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:a/x:pull\""
                    ),
                )],
                ..Answer::status(401)
            },
        }
    })
    .await;
    let reference = format!("{}/a/x:1", fake.address);
    assert_eq!(
        pull(&TestStore::new(), &reference)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Denied
    );
    let auth = Auth {
        username: "me".into(),
        password: "pw".into(),
        ..Auth::default()
    };
    let request = PullRequest {
        auth: Some(auth),
        ..PullRequest::new(&reference)
    };
    let test = TestStore::new();
    test.store.pull(request, silent()).await.unwrap();
    let asked = tokens.seen("service=reg&scope=repository%3Aa%2Fx%3Apull");
    assert_eq!(
        asked.len(),
        2,
        "one try without, one with credentials; then the token is kept"
    );
    assert!(
        fake.seen("blobs")
            .iter()
            .all(|r| r.headers["authorization"] == "Bearer T0")
    );
}

#[tokio::test]
async fn temporary_failures_pass() {
    let image = image();
    let (served, count) = (image.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(503),
        1 => Answer::status(429),
        _ => serve(&served, request),
    })
    .await;
    pull(&TestStore::new(), &format!("{}/x:1", fake.address))
        .await
        .unwrap();
}

#[tokio::test]
async fn mirrors_come_first_and_the_registry_last() {
    let image = image();
    let (on_mirror, on_upstream) = (image.clone(), image.clone());
    let mirror = Fake::start(move |request| {
        // It has all but the manifest's config, and lives under a path of its own.
        let answer = serve(&on_mirror, request);
        let fine = request.target.starts_with("/cache/v2/a/x/")
            && request.headers.get("x-key").is_some_and(|k| k == "1");
        if fine && !request.target.contains(on_mirror.id().as_str()) {
            answer
        } else {
            Answer::status(404)
        }
    })
    .await;
    let upstream = Fake::start(move |request| serve(&on_upstream, request)).await;
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}/cache\"]\n[host.\"http://{}/cache\".header]\nx-key = \"1\"\n",
        upstream.address, mirror.address, mirror.address
    );
    let (test, _hosts) = with_hosts("reg.example", &toml);
    let pulled = pull(&test, "reg.example/a/x:1").await.unwrap();
    assert_eq!(pulled.repo_tags, ["reg.example/a/x:1"]);
    assert!(
        mirror
            .seen("")
            .iter()
            .all(|r| r.target.ends_with("?ns=reg.example"))
    );
    assert_eq!(
        upstream.seen("").len(),
        1,
        "only what the mirror lacks: {:?}",
        upstream.seen("")
    );
}

#[tokio::test]
async fn two_pulls_share_their_layers() {
    let image = large();
    let served = image.clone();
    let fake = Fake::start(move |request| serve(&served, request)).await;
    let test = TestStore::new();
    let (one, two) = (
        format!("{}/one:1", fake.address),
        format!("{}/two:1", fake.address),
    );
    let (one, two) = tokio::join!(pull(&test, &one), pull(&test, &two));
    assert_eq!(one.unwrap().id, two.unwrap().id);
    assert_eq!(fake.seen(Digest::of(&image.layers[0].1).as_str()).len(), 1);
    assert_eq!(test.store.list().unwrap()[0].repo_tags.len(), 2);
    let before = fake.seen("").len();
    pull(&test, &format!("{}/one:1", fake.address))
        .await
        .unwrap();
    let after = fake.seen("").split_off(before);
    assert_eq!(
        after.iter().map(|r| r.method.as_str()).collect::<Vec<_>>(),
        ["HEAD"],
        "nothing is fetched again"
    );
}

#[tokio::test]
async fn errors_are_for_people() {
    let fake = Fake::start(|_| Answer::status(404)).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (reference, kind, says) in [
        (
            format!("{}/x:1", fake.address),
            ErrorKind::NotFound,
            "has no such manifest 1",
        ),
        (
            format!("{closed}/x:1"),
            ErrorKind::Unavailable,
            "refused the connection",
        ),
        ("X Y".to_owned(), ErrorKind::Invalid, "not valid"),
    ] {
        let error = pull(&TestStore::new(), &reference).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let (test, _hosts) = with_hosts(
        "reg.example",
        &format!("server = \"https://{}\"", fake.address),
    );
    let error = pull(&test, "reg.example/x:1").await.unwrap_err();
    assert!(error.to_string().contains("is it plain HTTP?"), "{error}");
}

#[tokio::test]
async fn a_pull_can_run_on_any_thread() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let test = TestStore::new();
    assert!(sendable(pull(&test, "")).await.is_err());
    let missing = test.dir.path().join("none");
    assert!(
        sendable(test.store.import(&missing, None, silent()))
            .await
            .is_err()
    );
}
