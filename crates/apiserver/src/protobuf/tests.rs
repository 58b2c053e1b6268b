use super::*;
use proptest::prelude::*;

/// Writes protobuf by hand: `(number, content)`.
enum Out {
    Number(u64),
    Bytes(Vec<u8>),
}

fn text(text: &str) -> Out {
    Out::Bytes(text.as_bytes().to_vec())
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
}

fn message(fields: Vec<(u64, Out)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, out) in fields {
        match out {
            Out::Number(value) => {
                varint(number << 3, &mut bytes);
                varint(value, &mut bytes);
            }
            Out::Bytes(content) => {
                varint(number << 3 | 2, &mut bytes);
                varint(content.len() as u64, &mut bytes);
                bytes.extend(content);
            }
        }
    }
    bytes
}

fn nested(fields: Vec<(u64, Out)>) -> Out {
    Out::Bytes(message(fields))
}

fn envelope(version: &str, kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let body = message(vec![
        (1, nested(vec![(1, text(version)), (2, text(kind))])),
        (2, Out::Bytes(raw)),
        (3, text("")),
        (4, text("")),
    ]);
    [MAGIC, &body].concat()
}

#[test]
fn a_pod_as_go_clients_write_it() {
    let container = nested(vec![
        (1, text("c")),
        (2, text("busybox")),
        (3, text("sleep")),
        (3, text("1")),
        (5, text("")),
        (
            6,
            nested(vec![
                (1, text("http")),
                (2, Out::Number(0)),
                (3, Out::Number(80)),
                (4, text("TCP")),
            ]),
        ),
        (
            8,
            nested(vec![(
                2,
                nested(vec![(1, text("cpu")), (2, nested(vec![(1, text("100m"))]))]),
            )]),
        ),
        (
            10,
            nested(vec![
                (
                    1,
                    nested(vec![(
                        2,
                        nested(vec![
                            (1, text("/")),
                            (
                                2,
                                nested(vec![
                                    (1, Out::Number(1)),
                                    (2, Out::Number(0)),
                                    (3, text("http")),
                                ]),
                            ),
                        ]),
                    )]),
                ),
                (2, Out::Number(0)),
            ]),
        ),
        (14, text("")),
    ]);
    let volume = nested(vec![(1, text("v")), (2, nested(vec![(2, nested(vec![]))]))]);
    let labels = nested(vec![(1, text("a")), (2, text("b"))]);
    let meta = nested(vec![
        (1, text("p")),
        (2, text("")),
        (8, nested(vec![])),
        (11, labels),
    ]);
    let spec = nested(vec![
        (1, volume),
        (2, container),
        (4, Out::Number(0)),
        (5, Out::Number(u64::MAX)),
    ]);
    let got = decode(&envelope(
        "v1",
        "Pod",
        message(vec![(1, meta), (2, spec), (3, nested(vec![(1, text(""))]))]),
    ))
    .unwrap();
    assert_eq!(
        got,
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "activeDeadlineSeconds": -1,
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{
                    "name": "c", "image": "busybox", "command": ["sleep", "1"],
                    "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}]}})
    );
}

#[test]
fn times_bytes_and_reviews() {
    let secret = message(vec![
        (1, nested(vec![(1, text("s"))])),
        (2, nested(vec![(1, text("k")), (2, text("abc"))])),
        (3, text("Opaque")),
    ]);
    assert_eq!(
        decode(&envelope("v1", "Secret", secret)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "YWJj"}, "type": "Opaque"})
    );
    let lease = message(vec![(
        2,
        nested(vec![
            (1, text("me")),
            (2, Out::Number(40)),
            (4, nested(vec![(1, Out::Number(1)), (2, Out::Number(5000))])),
        ]),
    )]);
    let got = decode(&envelope("coordination.k8s.io/v1", "Lease", lease)).unwrap();
    assert_eq!(
        got["spec"],
        json!({"holderIdentity": "me", "leaseDurationSeconds": 40, "renewTime": "1970-01-01T00:00:01.000005Z"})
    );
    let extra = nested(vec![
        (1, text("k")),
        (2, nested(vec![(1, text("a")), (1, text("b"))])),
    ]);
    let review = message(vec![(
        2,
        nested(vec![
            (1, nested(vec![(1, text("ns")), (2, text("get"))])),
            (3, text("u")),
            (5, extra),
        ]),
    )]);
    let got = decode(&envelope(
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        review,
    ))
    .unwrap();
    assert_eq!(
        got["spec"],
        json!({"resourceAttributes": {"namespace": "ns", "verb": "get"}, "user": "u", "extra": {"k": ["a", "b"]}})
    );
}

#[test]
fn a_definition_of_custom_resources_as_go_clients_write_it() {
    let text_schema = || vec![(5, text("string"))];
    let entry = |name: &str, schema| nested(vec![(1, text(name)), (2, schema)]);
    let raw = |json: &str| nested(vec![(1, text(json))]);
    let bits = |number: f64| {
        let mut bytes = vec![9 << 3 | 1];
        bytes.extend(number.to_bits().to_le_bytes());
        bytes
    };
    let bounded = [message(vec![(5, text("integer"))]), bits(10.0)].concat();
    let half = [message(vec![(5, text("number"))]), bits(0.5)].concat();
    let properties = [
        entry(
            "list",
            nested(vec![(24, nested(vec![(1, nested(text_schema()))]))]),
        ),
        entry(
            "lists",
            nested(vec![(
                24,
                nested(vec![(2, nested(text_schema())), (2, nested(vec![]))]),
            )]),
        ),
        entry(
            "open",
            nested(vec![(
                30,
                nested(vec![(1, Out::Number(1)), (2, nested(text_schema()))]),
            )]),
        ),
        entry(
            "shut",
            nested(vec![(30, nested(vec![(1, Out::Number(0))]))]),
        ),
        entry(
            "kind",
            nested(vec![
                (8, raw("{\"a\":[1]}")),
                (20, raw("\"x\"")),
                (20, raw("null")),
            ]),
        ),
        entry("bounded", Out::Bytes(bounded)),
        entry("half", Out::Bytes(half)),
        entry(
            "needs",
            nested(vec![
                (
                    32,
                    nested(vec![(1, text("a")), (2, nested(vec![(2, text("b"))]))]),
                ),
                (
                    32,
                    nested(vec![
                        (1, text("c")),
                        (2, nested(vec![(1, nested(text_schema()))])),
                    ]),
                ),
            ]),
        ),
        entry(
            "ruled",
            nested(vec![
                (38, Out::Number(0)),
                (44, nested(vec![(1, text("self > 0"))])),
            ]),
        ),
    ];
    let properties = properties.into_iter().map(|property| (29, property));
    let schema = nested(vec![(1, nested(properties.collect()))]);
    let version = nested(vec![
        (1, text("v1")),
        (2, Out::Number(1)),
        (3, Out::Number(1)),
        (4, schema),
    ]);
    let definition = message(vec![
        (1, nested(vec![(1, text("as.example.com"))])),
        (2, nested(vec![(1, text("example.com")), (7, version)])),
    ]);
    let got = decode(&envelope(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        definition,
    ))
    .unwrap();
    let version = &got["spec"]["versions"][0];
    assert_eq!(version["served"], true);
    let properties = json!({
        "list": {"items": {"type": "string"}}, "lists": {"items": [{"type": "string"}, {}]},
        "open": {"additionalProperties": {"type": "string"}}, "shut": {"additionalProperties": false},
        "kind": {"default": {"a": [1]}, "enum": ["x", null]},
        "bounded": {"type": "integer", "maximum": 10}, "half": {"type": "number", "maximum": 0.5},
        "needs": {"dependencies": {"a": ["b"], "c": {"type": "string"}}},
        "ruled": {"x-kubernetes-preserve-unknown-fields": false, "x-kubernetes-validations": [{"rule": "self > 0"}]},
    });
    assert_eq!(
        version["schema"]["openAPIV3Schema"]["properties"],
        properties
    );
    assert_eq!(decode(&encode(&got).unwrap()).unwrap(), got);
}

#[test]
fn schemas_that_nest_without_end_are_refused() {
    // items in items, additionalProperties in additionalProperties, dependencies in dependencies
    for inside in [
        |schema: Vec<u8>| vec![(24, nested(vec![(1, Out::Bytes(schema))]))],
        |schema: Vec<u8>| vec![(24, nested(vec![(2, Out::Bytes(schema))]))],
        |schema: Vec<u8>| vec![(30, nested(vec![(2, Out::Bytes(schema))]))],
        |schema| {
            vec![(
                32,
                nested(vec![
                    (1, text("a")),
                    (2, nested(vec![(1, Out::Bytes(schema))])),
                ]),
            )]
        },
        |schema: Vec<u8>| vec![(28, Out::Bytes(schema))],
    ] {
        let mut schema = Vec::new();
        for _ in 0..2_000 {
            schema = message(inside(schema));
        }
        let schema = nested(vec![(1, Out::Bytes(schema))]);
        let definition = message(vec![(2, nested(vec![(7, nested(vec![(4, schema)]))]))]);
        let body = envelope(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            definition,
        );
        assert_eq!(decode(&body), Err(ProtobufError::Depth));
    }
}

#[test]
fn bad_bodies_are_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    assert_eq!(decode(b"k8s\0\xff"), Err(ProtobufError::Wire));
    let unknown = ProtobufError::Unknown {
        version: "a/v1".to_owned(),
        kind: "B".to_owned(),
    };
    assert_eq!(decode(&envelope("a/v1", "B", Vec::new())), Err(unknown));
    assert_eq!(
        decode(&envelope("v1", "Pod", vec![0x0a, 0x7f])),
        Err(ProtobufError::Wire)
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&envelope("v1", "Pod", raw.clone()));
        let _ = decode(&[MAGIC, &raw].concat());
    }
}

/// A value for each field of a message, messages inside it up to `depth` included.
fn filled(message: &Message, depth: usize) -> Map<String, Value> {
    let mut object = Map::new();
    for (_, field) in message.fields() {
        if field.inline() {
            if let Kind::Message(inner) = field.kind {
                object.extend(filled(table::find(inner).unwrap(), depth));
            }
            continue;
        }
        // An empty message that is no pointer reads as if it were not there.
        let Some(value) = sample(&field.kind, depth).filter(|value| *value != json!({})) else {
            continue;
        };
        let value = match (field.map, field.repeated) {
            (true, _) => json!({"a": value, "b": value}),
            (_, true) => json!([value, value]),
            (false, false) => value,
        };
        object.insert(field.name.to_owned(), value);
    }
    object
}

fn sample(kind: &Kind, depth: usize) -> Option<Value> {
    Some(match kind {
        Kind::Text => json!("täxt"),
        Kind::Bool => json!(true),
        Kind::Integer => json!(-7),
        Kind::Float => json!(0.5),
        Kind::Bytes => json!("AAH/"),
        Kind::Quantity => json!("100m"),
        Kind::IntOrString => json!("25%"),
        Kind::Time => json!("1969-07-20T20:17:40Z"),
        Kind::MicroTime => json!("2026-01-02T03:04:05.678901Z"),
        Kind::Json => json!({"f:metadata": {}}),
        Kind::Strings | Kind::SchemaOrStrings => json!(["x", "y"]),
        Kind::SchemaOrSchemas => json!([{"type": "string"}, {"type": "integer", "maximum": 3}]),
        Kind::SchemaOrBool => json!(false),
        Kind::Message(_) if depth == 0 => return None,
        Kind::Message(name) => Value::Object(filled(table::find(name)?, depth - 1)),
    })
}

#[test]
fn every_message_reads_as_it_was_written() {
    let mut seen = 0;
    for (name, message) in table::all() {
        let object = Value::Object(filled(message, 3));
        let mut bytes = Vec::new();
        encode::write(message, object.as_object().unwrap(), &mut bytes)
            .unwrap_or_else(|| panic!("{name} is written"));
        let mut back = Map::new();
        read(message, &bytes, &mut back, 0).unwrap();
        assert_eq!(Value::Object(back), object, "{name}");
        seen += 1;
    }
    assert!(seen > 400, "{seen} messages");
}

#[test]
fn an_object_is_written_as_go_clients_read_it() {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "creationTimestamp": null},
        "spec": {"ports": [{"port": 80, "targetPort": 0}, {"port": 81, "targetPort": "web"}]}});
    let expected = envelope(
        "v1",
        "Service",
        message(vec![
            (1, nested(vec![(1, text("s"))])),
            (
                2,
                nested(vec![
                    (
                        1,
                        nested(vec![
                            (3, Out::Number(80)),
                            (4, nested(vec![(1, Out::Number(0)), (2, Out::Number(0))])),
                        ]),
                    ),
                    (
                        1,
                        nested(vec![
                            (3, Out::Number(81)),
                            (4, nested(vec![(1, Out::Number(1)), (3, text("web"))])),
                        ]),
                    ),
                ]),
            ),
        ]),
    );
    // The two empty fields at the end of an envelope may be left out.
    let written = encode(&object).unwrap();
    assert_eq!(written, expected[..expected.len() - 4]);
}

#[test]
fn lists_and_metadata_have_messages_of_their_own() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [pod, pod]});
    let written = encode(&list).unwrap();
    let raw = field(&written[4..], 2).unwrap();
    assert_eq!(count(raw, 2), 2);
    let one = message_of("v1", "Pod", &pod).unwrap();
    assert_eq!(field(raw, 2).unwrap(), one);

    let partial = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "p"}});
    let raw = message_of("meta.k8s.io/v1", "PartialObjectMetadata", &partial).unwrap();
    assert_eq!(field(field(&raw, 1).unwrap(), 1).unwrap(), b"p");
}

#[test]
fn what_has_no_message_is_not_written() {
    for (api_version, kind) in [
        ("example.com/v1", "Widget"),
        ("core.example.com/v1", "Pod"),
        ("apps.example.com/v1", "Deployment"),
        ("meta.k8s.io/v1", "Table"),
    ] {
        assert_eq!(
            message_of(api_version, kind, &json!({"metadata": {}})),
            None
        );
        let body = envelope(api_version, kind, Vec::new());
        assert!(matches!(decode(&body), Err(ProtobufError::Unknown { .. })));
    }
    // Nothing is left out because it does not fit.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"priority": "high"}});
    assert_eq!(encode(&pod), None);
}
