//! Whom a pull trusts with credentials, and where an answer may lead it.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::registry::is_local;

/// An address of this machine that is not loopback: what a registry elsewhere looks like.
fn elsewhere() -> Ipv4Addr {
    let addresses = nix::ifaddrs::getifaddrs().unwrap();
    addresses
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .find(|address| !is_local(IpAddr::V4(*address)))
        .expect("this test needs an IPv4 address other than loopback on some interface")
}

fn redirect(to: String) -> Answer {
    Answer {
        headers: vec![("location", to)],
        ..Answer::status(307)
    }
}

fn unauthorized(challenge: String) -> Answer {
    Answer {
        headers: vec![("www-authenticate", challenge)],
        ..Answer::status(401)
    }
}

fn with_password(reference: &str) -> PullRequest {
    let auth = Auth {
        username: "me".into(),
        password: "pw".into(),
        ..Auth::default()
    };
    PullRequest {
        auth: Some(auth),
        ..PullRequest::new(reference)
    }
}

/// base64("me:pw")
const ME: &str = "Basic bWU6cHc=";

fn is_me(request: &fake::Request) -> bool {
    request
        .headers
        .get("authorization")
        .is_some_and(|a| a == ME)
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_and_no_headers_along() {
    let image = image();
    let (on_storage, on_registry) = (image.clone(), image.clone());
    let storage = Fake::start(move |request| serve(&on_storage, request)).await;
    let to = storage.address.clone();
    let registry = Fake::start(move |request| {
        if !is_me(request) {
            unauthorized("Basic realm=\"x\"".to_owned())
        } else if request.target.contains("/blobs/") {
            redirect(format!("http://user:secret@{to}{}", request.target))
        } else {
            serve(&on_registry, request)
        }
    })
    .await;
    let toml = format!(
        "server = \"http://{}\"\n[header]\nx-key = \"1\"\n",
        registry.address
    );
    let (test, _hosts) = with_hosts("reg.example", &toml);
    let request = with_password("reg.example/a/x:1");
    test.store.pull(request, silent()).await.unwrap();
    assert_eq!(storage.seen("/blobs/").len(), 4);
    for request in storage.seen("") {
        assert!(
            !request.headers.contains_key("authorization")
                && !request.headers.contains_key("x-key"),
            "{request:?}"
        );
    }
    assert!(
        registry
            .seen("/blobs/")
            .iter()
            .all(|r| is_me(r) && r.headers["x-key"] == "1")
    );
}

#[tokio::test]
async fn a_challenge_from_elsewhere_is_not_met() {
    let image = image();
    let thief = Fake::start(|_| Answer::ok(br#"{"token":"T"}"#)).await;
    let realm = format!("Bearer realm=\"http://{}/token\"", thief.address);
    let storage = Fake::start(move |_| unauthorized(realm.clone())).await;
    let to = storage.address.clone();
    let registry = Fake::start(move |request| {
        if request.target.contains("/blobs/") {
            redirect(format!("http://{to}/blob"))
        } else {
            serve(&image, request)
        }
    })
    .await;
    let request = with_password(&format!("{}/a/x:1", registry.address));
    let error = TestStore::new()
        .store
        .pull(request, silent())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!storage.seen("").is_empty());
    assert!(thief.seen("").is_empty(), "{:?}", thief.seen(""));
}

#[tokio::test]
async fn a_mirror_gets_no_credentials() {
    let image = image();
    let mirror = Fake::start(|_| unauthorized("Basic realm=\"mirror\"".to_owned())).await;
    let registry = Fake::start(move |request| {
        if is_me(request) {
            serve(&image, request)
        } else {
            unauthorized("Basic realm=\"registry\"".to_owned())
        }
    })
    .await;
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        registry.address, mirror.address
    );
    let (test, _hosts) = with_hosts("reg.example", &toml);
    let request = with_password("reg.example/a/x:1");
    test.store.pull(request, silent()).await.unwrap();
    assert!(!mirror.seen("").is_empty());
    assert!(
        mirror
            .seen("")
            .iter()
            .all(|r| !r.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn a_registry_elsewhere_does_not_lead_inside() {
    let image = image();
    let on_inside = image.clone();
    let inside = Fake::start(move |request| {
        if request.target.starts_with("/token") {
            Answer::ok(br#"{"token":"T"}"#)
        } else {
            serve(&on_inside, request)
        }
    })
    .await;
    for kind in ["blob", "manifest", "name", "realm", "realm by redirect"] {
        let (on_registry, to) = (image.clone(), inside.address.clone());
        let own = Arc::new(Mutex::new(String::new()));
        let own_address = own.clone();
        let registry = Fake::at(elsewhere(), move |request| match kind {
            "blob" if request.target.contains("/blobs/") => {
                redirect(format!("http://{to}{}", request.target))
            }
            "manifest" => redirect(format!("http://{to}{}", request.target)),
            "name" => redirect(format!(
                "http://localhost.:{}{}",
                to.rsplit_once(':').unwrap().1,
                request.target
            )),
            "realm" => unauthorized(format!("Bearer realm=\"http://{to}/token\"")),
            "realm by redirect" if request.target.starts_with("/token") => {
                redirect(format!("http://{to}/token"))
            }
            "realm by redirect" => unauthorized(format!(
                "Bearer realm=\"http://{}/token\"",
                own_address.lock()
            )),
            _ => serve(&on_registry, request),
        })
        .await;
        own.lock().clone_from(&registry.address);
        let toml = format!("server = \"http://{}\"\n", registry.address);
        let (test, _hosts) = with_hosts("reg.example", &toml);
        let request = with_password("reg.example/a/x:1");
        let error = test.store.pull(request, silent()).await.unwrap_err();
        assert!(
            error.to_string().contains("loopback or link-local address"),
            "{kind}: {error}"
        );
        assert!(inside.seen("").is_empty(), "{kind}: {:?}", inside.seen(""));
    }
}

#[tokio::test]
async fn a_registry_elsewhere_may_redirect_elsewhere() {
    let image = image();
    let on_storage = image.clone();
    let storage = Fake::at(elsewhere(), move |request| serve(&on_storage, request)).await;
    let to = storage.address.clone();
    let registry = Fake::at(elsewhere(), move |request| {
        if request.target.contains("/blobs/") {
            redirect(format!("http://{to}{}", request.target))
        } else {
            serve(&image, request)
        }
    })
    .await;
    let toml = format!("server = \"http://{}\"\n", registry.address);
    let (test, _hosts) = with_hosts("reg.example", &toml);
    pull(&test, "reg.example/a/x:1").await.unwrap();
}

#[tokio::test]
async fn redirects_end() {
    let registry = Fake::start(|request| redirect(format!("{}x", request.target))).await;
    let error = pull(&TestStore::new(), &format!("{}/x:1", registry.address))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("redirects more than 10 times"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_does_not_say_which_image_a_digest_is() {
    // It has one image, and says that of every other digest, too.
    let image = image();
    let (served, digest) = (image.clone(), Digest::of(&image.manifest));
    let named = digest.clone();
    let registry = Fake::start(move |request| {
        if request.method == "HEAD" && request.target.contains("/manifests/") {
            return Answer {
                headers: vec![("docker-content-digest", named.to_string())],
                ..Answer::ok(&served.manifest)
            };
        }
        serve(&served, request)
    })
    .await;
    let test = TestStore::new();
    let reference = format!("{}/a/x:1", registry.address);
    let pulled = pull(&test, &reference).await.unwrap();
    let repository = format!("{}/a/x", registry.address);
    let same = pull(&test, &format!("{repository}@{digest}"))
        .await
        .unwrap();
    assert_eq!(same.id, pulled.id);
    let other = Digest::of(b"pinned");
    let refused = pull(&test, &format!("{repository}@{other}")).await;
    assert!(refused.is_err(), "{refused:?}");
}
