use super::*;

fn resource(raw: &str) -> ResourcePath {
    match read(raw) {
        Ok(ApiPath::Resource(path)) => path,
        other => panic!("{raw}: {other:?}"),
    }
}

#[test]
fn parts_are_where_the_stock_server_finds_them() {
    // path, group/version, namespace, in it?, resource, name, subresource
    for (path, api, namespace, inside, resource_name, name, subresource) in [
        ("/api/v1/pods", "/v1", "", false, "pods", "", ""),
        ("//api/v1/pods/", "/v1", "", false, "pods", "", ""),
        ("/api/v1/namespaces", "/v1", "", false, "namespaces", "", ""),
        (
            "/api/v1/namespaces/n",
            "/v1",
            "n",
            false,
            "namespaces",
            "n",
            "",
        ),
        (
            "/api/v1/namespaces/n/status",
            "/v1",
            "n",
            false,
            "namespaces",
            "n",
            "status",
        ),
        (
            "/api/v1/namespaces/n/pods",
            "/v1",
            "n",
            true,
            "pods",
            "",
            "",
        ),
        (
            "/api/v1/namespaces/n/pods/p/log",
            "/v1",
            "n",
            true,
            "pods",
            "p",
            "log",
        ),
        (
            "/api/v1/namespaces/n/namespaces/m",
            "/v1",
            "n",
            true,
            "namespaces",
            "m",
            "",
        ),
        (
            "/apis/g/v1/namespaces/n/namespaces",
            "g/v1",
            "n",
            true,
            "namespaces",
            "",
            "",
        ),
        (
            "/apis/g/v1/things/a%20b",
            "g/v1",
            "",
            false,
            "things",
            "a b",
            "",
        ),
        ("/%61pi/v1/pods/p", "/v1", "", false, "pods", "p", ""),
    ] {
        let got = resource(path);
        assert_eq!(format!("{}/{}", got.group, got.version), api, "{path}");
        assert_eq!(
            (got.namespace.as_str(), got.in_namespace),
            (namespace, inside),
            "{path}"
        );
        assert_eq!(
            [got.resource.as_str(), &got.name, &got.subresource],
            [resource_name, name, subresource],
            "{path}"
        );
        assert_eq!((got.watch, got.behind), (false, None), "{path}");
    }
}

#[test]
fn the_watch_prefix_is_taken_off_once() {
    let got = resource("/api/v1/watch/namespaces/n/pods/p");
    assert!(got.watch && got.in_namespace);
    assert_eq!(
        [got.namespace.as_str(), &got.resource, &got.name],
        ["n", "pods", "p"]
    );
    assert_eq!(resource("/api/v1/watch/watch/x").resource, "watch");
    let alone = resource("/api/v1/watch");
    assert_eq!((alone.watch, alone.resource.as_str()), (false, "watch"));
}

#[test]
fn what_follows_a_subresource_is_kept_as_it_was_sent() {
    for (path, behind) in [
        ("/api/v1/nodes/n/proxy", None),
        ("/api/v1/nodes/n/proxy/", Some("")),
        ("/api/v1/nodes/n/proxy/a", Some("a")),
        ("/api/v1/nodes/n/proxy/a%2Fb/../c/", Some("a%2Fb/../c/")),
        ("/api/v1/nodes/n/proxy//a", Some("/a")),
        ("/api/v1/namespaces/n/pods/p/log/x", Some("x")),
    ] {
        let got = resource(path).behind.filter(|b| !b.is_empty());
        assert_eq!(got.as_deref(), behind.filter(|b| !b.is_empty()), "{path}");
    }
}

#[test]
fn segments_that_could_be_read_in_two_ways_are_refused() {
    for path in [
        "/api/v1//pods",
        "/api/v1/namespaces//pods",
        "/api/v1/namespaces/n//pods",
        "/api/v1/namespaces/n/pods//log",
        "/api/v1/namespaces/../pods/p",
        "/api/v1/namespaces/n/pods/%2e%2e",
        "/api/v1/namespaces/n/pods/.",
        "/api/v1/namespaces/n/pods/a%2Fexec",
        "/api/v1/namespaces/a%2Fpods%2Fb",
        "/api/v1/namespaces/n/pods/%ff",
        "/api/v1/namespaces/n/pods/a%00",
        "/apis//v1/pods",
        "/x%ff",
    ] {
        assert_eq!(read(path).map_err(|e| e.code()), Err(400), "{path}");
    }
}

#[test]
fn other_paths_are_decoded() {
    for (raw, path) in [
        ("/", "/"),
        ("/api", "/api"),
        ("/api/v1", "/api/v1"),
        ("/apis/node.k8s.io/v1/", "/apis/node.k8s.io/v1/"),
        ("/metric%73", "/metrics"),
        ("/api%2Fv1%2Fsecrets", "/api/v1/secrets"),
    ] {
        assert_eq!(read(raw), Ok(ApiPath::Plain(path.to_owned())), "{raw}");
    }
}
