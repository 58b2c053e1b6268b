use super::*;
use crate::kinds;
use crate::registry::Registry;

fn read_with(method: &str, uri: &str, headers: &HeaderMap) -> Result<ResourceRequest, ApiError> {
    let registry = Registry::new(kinds::rows());
    let (method, uri): (Method, Uri) = (method.parse().unwrap(), uri.parse().unwrap());
    match ApiRequest::read(&method, &uri, headers, &registry.table())? {
        ApiRequest::Resource(request) => Ok(*request),
        ApiRequest::Path(path) => panic!("{uri} names no resource: {}", path.path),
    }
}

fn read(method: &str, uri: &str) -> Result<ResourceRequest, ApiError> {
    read_with(method, uri, &HeaderMap::new())
}

/// What authorization sees of a request: verb, namespace, resource/subresource, name; and whether anything serves it.
fn seen(method: &str, uri: &str) -> (String, bool) {
    let request = read(method, uri).unwrap();
    let target = &request.target;
    let text = format!(
        "{} {}:{}/{} {}",
        request.verb.as_str(),
        target.namespace,
        target.resource,
        target.subresource,
        request.name()
    );
    (text, target.row().is_ok())
}

#[test]
fn a_request_is_read_once() {
    for (method, uri, what) in [
        ("GET", "/api/v1/namespaces/n/pods/p", "get n:pods/ p"),
        ("HEAD", "/api/v1/namespaces/n/pods/p", "get n:pods/ p"),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p?watch=1",
            "get n:pods/ p",
        ),
        ("GET", "/api/v1/pods", "list :pods/ "),
        ("GET", "/api/v1/pods?watch", "watch :pods/ "),
        ("GET", "/api/v1/pods?watch=true", "watch :pods/ "),
        ("GET", "/api/v1/pods?watch=0", "list :pods/ "),
        ("GET", "/api/v1/pods?watch=False", "list :pods/ "),
        ("GET", "/api/v1/watch/pods", "watch :pods/ "),
        ("GET", "/api/v1/watch/pods?watch=false", "watch :pods/ "),
        (
            "GET",
            "/api/v1/watch/namespaces/n/pods/p",
            "watch n:pods/ p",
        ),
        ("GET", "/api/v1/watch/namespaces/n", "watch n:namespaces/ n"),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dp",
            "list :pods/ p",
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name!%3Dp",
            "list :pods/ ",
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dp%5C,q",
            "list :pods/ p,q",
        ),
        (
            "GET",
            "/api/v1/pods?watch=1&fieldSelector=metadata.name%3D%3Dp",
            "watch :pods/ p",
        ),
        (
            "POST",
            "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Dp",
            "create n:pods/ ",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Dp",
            "deletecollection n:pods/ ",
        ),
        (
            "PUT",
            "/api/v1/namespaces/n/finalize",
            "update n:namespaces/finalize n",
        ),
        (
            "POST",
            "/api/v1/namespaces/n/pods/p/binding",
            "create n:pods/binding p",
        ),
        (
            "PATCH",
            "/apis/node.k8s.io/v1/runtimeclasses/x",
            "patch :runtimeclasses/ x",
        ),
        // connections
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/exec?command=a&command=b",
            "create n:pods/exec p",
        ),
        (
            "POST",
            "/api/v1/namespaces/n/pods/p/attach",
            "create n:pods/attach p",
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/portforward",
            "create n:pods/portforward p",
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/log?watch=1&watch=0",
            "get n:pods/log p",
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/proxy/x?limit=a&limit=b",
            "get n:pods/proxy p",
        ),
        ("POST", "/api/v1/nodes/n/proxy/run", "create :nodes/proxy n"),
        ("DELETE", "/api/v1/nodes/n/proxy/", "delete :nodes/proxy n"),
    ] {
        assert_eq!(seen(method, uri), (what.to_owned(), true), "{method} {uri}");
    }
}

#[test]
fn paths_of_the_wrong_scope_lead_nowhere() {
    for (method, uri) in [
        ("GET", "/api/v1/namespaces/a/namespaces/b"),
        ("DELETE", "/api/v1/namespaces/a/namespaces/a"),
        ("PUT", "/api/v1/namespaces/a/namespaces/b/finalize"),
        ("GET", "/api/v1/namespaces/a/nodes/n"),
        ("GET", "/apis/node.k8s.io/v1/namespaces/a/runtimeclasses/r"),
        ("GET", "/api/v1/watch/namespaces/a/namespaces"),
        ("GET", "/api/v1/pods/p"),
        ("GET", "/api/v1/pods/p/exec"),
        ("GET", "/api/v1/watch/namespaces/a/pods/p/exec"),
        ("GET", "/api/v1/watch/namespaces/a/pods/p/status"),
        ("GET", "/api/v1/watch/namespaces/a/status"),
        ("GET", "/api/v1/namespaces/a/pods/p/log/more"),
        ("GET", "/api/v1/namespaces/a/pods/p/status/more"),
        ("GET", "/api/v1/namespaces/a/frobs"),
    ] {
        assert!(!seen(method, uri).1, "{method} {uri}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (method, uri, code) in [
        ("GET", "/api/v1/pods?watch=false&watch=1", 400),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Db",
            400,
        ),
        ("GET", "/api/v1/pods?labelSelector=a&labelSelector=b", 400),
        (
            "GET",
            "/api/v1/pods?resourceVersion=1&resourceVersion=2",
            400,
        ),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name", 400),
        ("GET", "/api/v1/pods?timeoutSeconds=-1", 400),
        ("GET", "/api/v1/pods?timeoutSeconds=2147483648", 400),
        (
            "GET",
            "/api/v1/pods?timeoutSeconds=99999999999999999999",
            400,
        ),
        (
            "DELETE",
            "/api/v1/namespaces/n/pods/p?propagationPolicy=Orphan&propagationPolicy=Background",
            400,
        ),
        (
            "POST",
            "/api/v1/namespaces/n/pods?fieldManager=a&fieldManager=b",
            400,
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/log?container=a&container=b",
            400,
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/exec?container=a&command=x&container=b",
            400,
        ),
        ("POST", "/api/v1/watch/namespaces/n/pods", 405),
        ("DELETE", "/api/v1/watch/namespaces/n/pods/p", 405),
        ("PATCH", "/api/v1/watch/namespaces/n/pods/p/status", 405),
        ("OPTIONS", "/api/v1/pods", 405),
        ("OPTIONS", "/api/v1/namespaces/n/pods/p/exec", 405),
        ("OPTIONS", "/api/v1/watch/namespaces/n/pods/p/proxy", 405),
        ("CONNECT", "/api/v1/namespaces/n/pods/p/exec", 405),
    ] {
        let got = read(method, uri).map(|request| request.verb);
        assert_eq!(got.map_err(|e| e.code()), Err(code), "{method} {uri}");
    }
    // All values of this one count.
    assert!(read("POST", "/api/v1/namespaces/n/pods?dryRun=All&dryRun=All").is_ok());
    // The same value once more leaves nothing open.
    for (method, uri) in [
        (
            "POST",
            "/api/v1/namespaces/n/pods/p/exec?container=a&command=x&container=a&stdin=true&stdin=true",
        ),
        (
            "GET",
            "/api/v1/namespaces/n/pods/p/log?container=a&container=a",
        ),
        ("GET", "/api/v1/pods?limit=5&limit=5"),
    ] {
        assert!(read(method, uri).is_ok(), "{method} {uri}");
    }
    // The same number in other digits could be another one to somebody.
    assert!(read("GET", "/api/v1/pods?limit=5&limit=05").is_err());
}

#[test]
fn an_upgrade_needs_create_as_well() {
    let mut headers = HeaderMap::new();
    headers.insert(header::UPGRADE, "websocket".parse().unwrap());
    for (uri, verbs) in [
        (
            "/api/v1/nodes/n/proxy/exec/x",
            vec![Verb::Get, Verb::Create],
        ),
        (
            "/api/v1/namespaces/n/pods/p/proxy",
            vec![Verb::Get, Verb::Create],
        ),
        ("/api/v1/namespaces/n/pods/p/exec", vec![Verb::Create]),
        ("/api/v1/namespaces/n/pods/p/log", vec![Verb::Get]),
        ("/api/v1/namespaces/n/pods/p", vec![Verb::Get]),
    ] {
        let request = read_with("GET", uri, &headers).unwrap();
        assert_eq!(request.needed_verbs().collect::<Vec<_>>(), verbs, "{uri}");
    }
}

#[test]
fn what_a_proxy_passes_on_takes_the_right_to_change() {
    for (method, verb) in [
        ("OPTIONS", Verb::Create),
        ("POST", Verb::Create),
        ("GET", Verb::Get),
    ] {
        let request = read(method, "/api/v1/namespaces/n/services/s:80/proxy/x").unwrap();
        assert_eq!(request.verb, verb, "{method}");
    }
}

#[test]
fn a_proxy_passes_on_path_and_query_as_they_were_sent() {
    for (uri, passed) in [
        (
            "/api/v1/nodes/n/proxy/stats/summary?x=1",
            "/stats/summary?x=1",
        ),
        ("/api/v1/nodes/n/proxy?x=%20", "/?x=%20"),
        ("/api/v1/namespaces/ns/pods/p:8080/proxy", "/"),
        ("/api/v1/namespaces/ns/pods/p/proxy/a%2Fb//c/", "/a%2Fb//c/"),
    ] {
        let connect = read("GET", uri).unwrap().connect.unwrap();
        assert_eq!(connect.path_and_query, passed, "{uri}");
    }
}

#[test]
fn a_path_that_names_no_resource_keeps_its_method() {
    let registry = Registry::new(kinds::rows());
    for (method, path) in [
        ("GET", "/healthz"),
        ("HEAD", "/metrics"),
        ("OPTIONS", "/api"),
        ("POST", "/apis/node.k8s.io/v1"),
    ] {
        let (parsed, uri): (Method, Uri) = (method.parse().unwrap(), path.parse().unwrap());
        match ApiRequest::read(&parsed, &uri, &HeaderMap::new(), &registry.table()) {
            Ok(ApiRequest::Path(request)) => {
                assert_eq!(
                    (request.method, request.path),
                    (method.to_ascii_lowercase(), path.to_owned())
                );
            }
            _ => panic!("{method} {path}"),
        }
    }
}
