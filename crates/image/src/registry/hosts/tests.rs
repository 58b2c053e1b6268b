use super::*;

fn bases(endpoints: &[Endpoint]) -> Vec<&str> {
    endpoints.iter().map(|e| e.base.as_str()).collect()
}

fn parsed(text: &str) -> Result<Vec<Endpoint>, String> {
    parse(
        text,
        Path::new("/certs.d/docker.io/hosts.toml"),
        "docker.io",
    )
    .map_err(|e| e.to_string())
}

#[test]
fn defaults_are_tls_but_on_loopback() {
    let of = |registry: &str| endpoints(&[], registry).unwrap();
    assert_eq!(bases(&of("docker.io")), ["https://registry-1.docker.io/v2"]);
    assert_eq!(
        bases(&of("example.com:5000")),
        ["https://example.com:5000/v2"]
    );
    assert_eq!(
        bases(&of("127.0.0.1:5000")),
        ["http://127.0.0.1:5000/v2", "https://127.0.0.1:5000/v2"]
    );
    assert_eq!(
        bases(&of("[::1]:5000")),
        ["http://[::1]:5000/v2", "https://[::1]:5000/v2"]
    );
    assert_eq!(bases(&of("localhost:443")), ["https://localhost/v2"]);
}

#[test]
fn a_full_file() {
    let endpoints = parsed(
        r#"
        server = "https://docker.io"
        ca = "root.pem"
        [host."https://zz.example/path"]
          capabilities = ["pull"]
          client = [["c.cert", "c.key"], ["both.pem", ""]]
          [host."https://zz.example/path".header]
            x-one = "1"
            x-two = ["a", "b"]
        [host."http://aa.example:5000/v2"]
          skip_verify = true
          ca = ["/abs.pem", "rel.pem"]
        [host."mm.example/own"]
          override_path = true
        [host."127.0.0.1:5001"]
          capabilities = ["pull", "resolve", "push"]
        "#,
    )
    .unwrap();
    assert_eq!(
        bases(&endpoints),
        [
            "https://zz.example/path/v2",
            "http://aa.example:5000/v2",
            "https://mm.example/own",
            "http://127.0.0.1:5001/v2",
            "https://registry-1.docker.io/v2"
        ],
        "in the order of the file"
    );
    let [first, second, .., last] = endpoints.as_slice() else {
        panic!()
    };
    assert!(first.can(Capability::Pull) && !first.can(Capability::Resolve));
    assert_eq!(first.namespace.as_deref(), Some("docker.io"));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        first.headers,
        [
            header("x-one", "1"),
            header("x-two", "a"),
            header("x-two", "b")
        ]
    );
    let place = |name: &str| Path::new("/certs.d/docker.io").join(name);
    assert_eq!(
        first.tls.client,
        [
            (place("c.cert"), Some(place("c.key"))),
            (place("both.pem"), None)
        ]
    );
    assert_eq!(second.tls.ca, [PathBuf::from("/abs.pem"), place("rel.pem")]);
    assert!(second.tls.skip_verify);
    assert_eq!(
        (last.namespace.as_ref(), &last.tls.ca),
        (None, &vec![place("root.pem")])
    );
}

#[test]
fn without_a_server_the_registry_itself_is_last() {
    let endpoints = parsed("[host.\"https://m.example\"]\n").unwrap();
    assert_eq!(
        bases(&endpoints),
        ["https://m.example/v2", "https://registry-1.docker.io/v2"]
    );
    assert_eq!(
        bases(&parsed("").unwrap()),
        ["https://registry-1.docker.io/v2"]
    );
}

#[test]
fn errors_name_the_file() {
    for bad in [
        "server = 1",
        "[host.\"ftp://x\"]",
        "capabilities = [\"fly\"]",
        "client = [[\"a\",\"b\",\"c\"]]",
    ] {
        let error = parsed(bad).unwrap_err();
        assert!(error.contains("/certs.d/docker.io/hosts.toml"), "{error}");
    }
}

#[test]
fn directories_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let directories = [dir.path().join("missing"), dir.path().to_owned()];
    let write = |name: &str, file: &str, text: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join(file), text).unwrap();
    };
    write(
        "_default",
        "hosts.toml",
        "[host.\"https://default.example\"]",
    );
    write(
        "a.example_5000_",
        "hosts.toml",
        "[host.\"https://port.example\"]",
    );
    write("b.example:5000", "ca.crt", "");
    let first = |registry: &str| endpoints(&directories, registry).unwrap().remove(0);
    assert_eq!(
        first("x.example").base.as_str(),
        "https://default.example/v2"
    );
    assert_eq!(
        first("a.example:5000").base.as_str(),
        "https://port.example/v2"
    );
    assert_eq!(
        first("b.example:5000").tls.ca,
        [dir.path().join("b.example:5000/ca.crt")]
    );
    write("b.example:5000", "me.cert", "");
    assert!(
        endpoints(&directories, "b.example:5000")
            .unwrap_err()
            .to_string()
            .contains("key")
    );
}
