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
