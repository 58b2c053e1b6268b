use proptest::prelude::*;

use super::*;

const PATH: &str = "%2Frun%2Fberth%2Fcri.sock";
const ALLOWED: &str = "-2Frun-2Fberth-2Fcri.sock";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    [&head[..], payload].concat()
}

fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 127);
    [&[length], text.as_bytes()].concat()
}

/// POST, a path, and the authority in one of the forms that clients use.
fn block(name: &[u8], value: &str) -> Vec<u8> {
    [&[0x83, 0x44][..], &text("/x"), name, &text(value)].concat()
}

/// What comes out when the bytes come in by so many.
fn filtered(bytes: &[u8], step: usize) -> Vec<u8> {
    let mut filter = Filter::default();
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    for part in bytes.chunks(step) {
        input.extend_from_slice(part);
        filter.pass(&mut input, &mut output);
    }
    output.to_vec()
}

#[test]
fn a_socket_s_path_becomes_a_name_and_nothing_else_changes() {
    // By index with and without a place in the table, never to be indexed, and with the name written out.
    let written = [&[0x40][..], &text(":authority")].concat();
    for name in [&[0x41][..], &[0x01], &[0x11], &written] {
        for (given, wanted) in [
            (PATH, ALLOWED),
            ("/run/berth/cri.sock", "-run-berth-cri.sock"),
            ("unix:/run/cri.sock", "unix--run-cri.sock"),
            ("localhost", "localhost"),
            ("[::1]:80", "[::1]:80"),
            ("user@host:1", "user@host:1"),
            ("", ""),
        ] {
            let bytes = |value: &str| {
                let body = block(name, value);
                let (one, two) = body.split_at(body.len() - 3);
                let padded = [&[2, 0, 0, 0, 0, 9][..], &body, &[0, 0]].concat();
                [
                    PREFACE.to_vec(),
                    frame(4, 0, &[]),
                    frame(HEADERS, END_HEADERS, &body),
                    frame(0, 1, value.as_bytes()),
                    frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
                    // A value that is cut in two.
                    frame(HEADERS, 0, one),
                    frame(CONTINUATION, END_HEADERS, two),
                    frame(6, 0, &[7; 8]),
                ]
            };
            let mut expected = bytes(wanted);
            expected[3] = frame(0, 1, given.as_bytes());
            for step in [1, 7, 1 << 20] {
                assert_eq!(
                    filtered(&bytes(given).concat(), step),
                    expected.concat(),
                    "{given:?} by {step}"
                );
            }
        }
    }
}

#[test]
fn other_headers_keep_what_only_looks_like_it() {
    let other = [&[0x40][..], &text("x-authority")].concat();
    for name in [&other[..], &[0x44], &[0x7f, 0x00]] {
        let bytes = [
            PREFACE.to_vec(),
            frame(HEADERS, END_HEADERS, &block(name, PATH)),
        ]
        .concat();
        assert_eq!(filtered(&bytes, 5), bytes);
    }
}

#[test]
fn no_http2_passes_as_it_is() {
    let bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(filtered(bytes, 3), bytes);
}

#[test]
fn a_block_without_end_is_not_kept() {
    let mut bytes = [PREFACE.to_vec(), frame(HEADERS, 0, &[0; 16_000])].concat();
    for _ in 0..100 {
        bytes.extend(frame(CONTINUATION, 0, &[0; 16_000]));
    }
    let mut filter = Filter::default();
    let (mut input, mut output) = (BytesMut::from(&bytes[..]), BytesMut::new());
    filter.pass(&mut input, &mut output);
    assert!(filter.block.len() <= BLOCK_LIMIT);
    assert!(input.is_empty());
    assert!(bytes.starts_with(&output));
}

proptest! {
    /// Whatever comes, as many bytes leave at most, and the frames' heads are those that came.
    #[test]
    fn any_bytes_keep_their_length(body in proptest::collection::vec(any::<u8>(), 0..300), flags: u8) {
        let bytes = [PREFACE.to_vec(), frame(HEADERS, flags | END_HEADERS, &body), frame(0, 0, b"x")].concat();
        let out = filtered(&bytes, 11);
        prop_assert_eq!(out.len(), bytes.len());
        prop_assert_eq!(&out[..PREFACE.len() + FRAME_HEAD], &bytes[..PREFACE.len() + FRAME_HEAD]);
    }
}
