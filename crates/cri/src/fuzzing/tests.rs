//! The fuzz targets' ways in, on good inputs with some changes.

use proptest::prelude::*;

use super::{import_anything, speak_spdy};

const CONFIGURATIONS: [&str; 4] = [
    "default_handler = \"a\"\n[handlers.a]\nbinary = \"runc\"\nargs = [\"--x\"]\nsystemd_cgroup = true\n\
     [handlers.k]\nkind = \"shim\"\nbinary = \"containerd-shim-kata-v2\"\nvm = true\n\
     [registry]\nhosts_dirs = [\"/h\"]\n[cni]\nbin_dirs = [\"/b\"]\n",
    "version = 2\nimports = [\"/nonexistent/*.toml\"]\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
     default_runtime_name = \"runc\"\n\
     [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
     [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nBinaryName = \"/usr/bin/runc\"\n",
    "[crio.runtime]\ndefault_runtime = \"runc\"\ncgroup_manager = \"systemd\"\n[crio.runtime.runtimes.kata]\n\
     runtime_path = \"/usr/bin/containerd-shim-kata-v2\"\nruntime_type = \"vm\"\nallowed_annotations = [\"a.*\"]\n",
    "{\"default-runtime\": \"runsc\", \"runtimes\": {\"runsc\": {\"path\": \"/usr/bin/runsc\", \"runtimeArgs\": [\"--a\"]}}}",
];

/// Pieces of syntax.
const PIECES: &[&str] = &["\"", "[", "]", "[[", "= ", "\n", "{", "0x", "'''", ".", "#"];

/// A change of an input.
#[derive(Debug, Clone)]
enum Edit {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), prop::collection::vec(any::<u8>(), 1..8))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), prop::sample::select(PIECES))
            .prop_map(|(at, text)| Edit::Insert(at, text.as_bytes().to_vec())),
        (at(), 1_usize..20).prop_map(|(at, length)| Edit::Remove(at, length)),
        (at(), 1_usize..60).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn change(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let place = |at: &prop::sample::Index| at.index(bytes.len() + 1);
        match edit {
            Edit::Set(at, byte) => {
                let at = place(at);
                if let Some(old) = bytes.get_mut(at) {
                    *old = *byte;
                }
            }
            Edit::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Edit::Repeat(at, length) => {
                let at = place(at);
                let again = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// What a client of exec sends: two streams, bytes, a ping, the end.
fn conversation() -> Vec<u8> {
    let mut wire = crate::streaming::spdy_opening(&[(1, "error"), (3, "stdin")]);
    wire.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    wire.extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
    wire.extend_from_slice(&[0, 0, 0, 3, 1, 0, 0, 0]);
    wire
}

#[test]
fn the_inputs_are_good_before_they_are_changed() {
    for text in CONFIGURATIONS {
        import_anything(text.as_bytes());
    }
    speak_spdy(&conversation());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_configurations_are_read_or_refused(
        which in 0..CONFIGURATIONS.len(),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        import_anything(&change(CONFIGURATIONS[which].as_bytes().to_vec(), &edits));
    }

    #[test]
    fn changed_conversations_end(edits in prop::collection::vec(edit(), 1..6)) {
        speak_spdy(&change(conversation(), &edits));
    }
}
