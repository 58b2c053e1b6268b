use http::{Method, Request, Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use kube::discovery::ApiResource;

use super::*;

/// What was asked of the server: method, path with query, and body.
type Requests = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A server of ConfigMaps and Namespaces that answers with a status and an object.
fn server(
    answer: impl Fn(&Method, &str) -> (StatusCode, Value) + Send + Sync + 'static,
) -> (Collector, Requests) {
    let requests = Requests::default();
    let record = Arc::clone(&requests);
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
        async move {
            let method = request.method().clone();
            let path = request.uri().to_string();
            let body = request.into_body().collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, object) = answer(&method, &path);
            record.lock().push((method, path, body));
            let body = Body::from(serde_json::to_vec(&object)?);
            Ok::<_, tower::BoxError>(Response::builder().status(status).body(body)?)
        }
    });
    let collector = Collector {
        client: Client::new(service, "default"),
        graph: Mutex::default(),
        resources: Mutex::new(Arc::new(Resources::of([
            resource("ConfigMap", "configmaps", true),
            resource("Namespace", "namespaces", false),
        ]))),
    };
    (collector, requests)
}

fn resource(kind: &str, plural: &str, namespaced: bool) -> Arc<Resource> {
    let api = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
    };
    Arc::new(Resource { api, namespaced })
}

fn owner(kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("{name} uid"),
        ..OwnerReference::default()
    }
}

fn owned_by(owners: Vec<OwnerReference>) -> Item {
    let meta = ObjectMeta {
        name: Some("item".into()),
        namespace: Some("n".into()),
        uid: Some("u".into()),
        resource_version: Some("7".into()),
        owner_references: Some(owners),
        ..ObjectMeta::default()
    };
    Item::new(&resource("ConfigMap", "configmaps", true), meta).expect("it has a name and a uid")
}

fn status(code: StatusCode, name: &str) -> (StatusCode, Value) {
    let reason = if code == StatusCode::NOT_FOUND {
        "NotFound"
    } else {
        ""
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "code": code.as_u16(), "details": {"name": name}});
    (code, status)
}

/// No object is there; changes succeed.
fn empty(method: &Method, path: &str) -> (StatusCode, Value) {
    match *method {
        Method::GET => status(StatusCode::NOT_FOUND, path),
        _ => (
            StatusCode::OK,
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "item", "namespace": "n"}}),
        ),
    }
}

#[tokio::test]
async fn the_name_of_an_owner_asks_for_nothing_else() {
    // The collector may do everything, and whoever creates a ConfigMap chooses these names.
    for (kind, name) in [
        ("Namespace", "other/pods/p/proxy/shutdown"),
        (
            "ConfigMap",
            "../../../../api/v1/namespaces/other/pods/p/proxy/",
        ),
        ("ConfigMap", "a%2f..%2fb"),
        ("ConfigMap", ".."),
        ("ConfigMap", ""),
    ] {
        let (collector, requests) = server(empty);
        let outcome = collector.judge(&owned_by(vec![owner(kind, name)])).await;
        assert_eq!(outcome.expect("it is collected"), Outcome::Done, "{name}");
        let requests: Vec<_> = requests
            .lock()
            .iter()
            .map(|(m, path, _)| (m.clone(), path.clone()))
            .collect();
        let [(Method::DELETE, path)] = requests.as_slice() else {
            panic!("{name}: {requests:?}")
        };
        assert_eq!(
            path.trim_end_matches('?'),
            "/api/v1/namespaces/n/configmaps/item"
        );
    }
    // What may be a name is a part of the path, whatever it has in it.
    for (name, escaped) in [
        ("a?watch=true", "a%3Fwatch%3Dtrue"),
        ("a#b", "a%23b"),
        ("system:a b\n", "system%3Aa%20b%0A"),
        ("\u{e4}", "%C3%A4"),
    ] {
        let (collector, requests) = server(empty);
        let outcome = collector
            .judge(&owned_by(vec![owner("ConfigMap", name)]))
            .await;
        assert_eq!(outcome.expect("it is collected"), Outcome::Done, "{name}");
        let (_, path, _) = requests.lock()[0].clone();
        assert_eq!(path, format!("/api/v1/namespaces/n/configmaps/{escaped}"));
    }
    // Too long to be asked for: that keeps the object.
    let (collector, requests) = server(empty);
    let long = owner("ConfigMap", &"a".repeat(NAME_MAX + 1));
    let outcome = collector.judge(&owned_by(vec![long])).await;
    assert_eq!(outcome.expect("it stays"), Outcome::Done);
    assert!(requests.lock().is_empty());
}

#[tokio::test]
async fn a_resource_that_is_not_served_is_no_owner_that_is_gone() {
    let (collector, requests) = server(|_, _| status(StatusCode::NOT_FOUND, ""));
    let outcome = collector
        .judge(&owned_by(vec![owner("ConfigMap", "a")]))
        .await;
    outcome.expect_err("nobody knows whether the owner is there");
    assert_eq!(requests.lock().len(), 1, "something was changed");
}

#[tokio::test]
async fn thousands_of_owners_are_asked_for_in_parts() {
    let many: Vec<_> = (0..ASKED_MAX + 5)
        .map(|number| owner("ConfigMap", &format!("o{number}")))
        .collect();
    let (collector, requests) = server(empty);
    let item = owned_by(many.clone());
    let outcome = collector.judge(&item).await.expect("an answer");
    assert_eq!(outcome, Outcome::Look(vec!["u".into()]));
    let (asked, changed): (Vec<_>, Vec<_>) = requests
        .lock()
        .drain(..)
        .partition(|(method, _, _)| method == Method::GET);
    assert_eq!(asked.len(), ASKED_MAX);
    let [(Method::PATCH, _, patch)] = changed.as_slice() else {
        panic!("{changed:?}")
    };
    let kept = patch["metadata"]["ownerReferences"]
        .as_array()
        .expect("a list");
    assert_eq!(kept.len(), 5);
    assert_eq!(kept[0]["name"], format!("o{ASKED_MAX}"));
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    // An owner of a kind that nobody has is found before anything is asked for.
    let unknown = owner("Widget", "w");
    let item = owned_by(many.into_iter().chain([unknown]).collect());
    assert_eq!(
        collector.judge(&item).await.expect("an answer"),
        Outcome::UnknownKind
    );
    assert!(requests.lock().is_empty());
}

#[tokio::test]
async fn a_circle_is_deleted_as_it_was_judged() {
    let (collector, requests) = server(empty);
    let waiting = {
        let meta = ObjectMeta {
            name: Some("other".into()),
            namespace: Some("n".into()),
            uid: Some("other uid".into()),
            finalizers: Some(vec![FOREGROUND.into()]),
            owner_references: Some(vec![OwnerReference {
                uid: "u".into(),
                ..owner("ConfigMap", "item")
            }]),
            ..ObjectMeta::default()
        };
        let item = Item::new(&resource("ConfigMap", "configmaps", true), meta);
        Item {
            deleting: true,
            ..item.expect("complete")
        }
    };
    collector.graph.lock().apply(waiting);
    let blocks = |block| OwnerReference {
        block_owner_deletion: Some(block),
        ..owner("ConfigMap", "other")
    };
    let item = owned_by(vec![blocks(true)]);
    collector.graph.lock().apply(item.clone());
    // It no longer blocks, and is judged anew: its owners may be others by then.
    let outcome = collector.judge(&item).await.expect("an answer");
    assert_eq!(outcome, Outcome::Look(vec!["u".into()]));
    let methods: Vec<_> = requests
        .lock()
        .drain(..)
        .map(|(method, ..)| method)
        .collect();
    assert_eq!(methods, [Method::PATCH]);
    let outcome = collector
        .judge(&owned_by(vec![blocks(false)]))
        .await
        .expect("an answer");
    assert_eq!(outcome, Outcome::Done);
    let requests = requests.lock().clone();
    let [(Method::DELETE, _, options)] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(options["propagationPolicy"], "Foreground");
    assert_eq!(
        options["preconditions"],
        json!({"uid": "u", "resourceVersion": "7"})
    );
}
