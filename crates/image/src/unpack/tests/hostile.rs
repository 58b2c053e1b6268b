//! Archives that want out.

use proptest::prelude::*;

use super::*;

/// A place with a directory beside it that an archive may try to reach.
fn attempt(layer: &Layer, target: Target) -> Result<Unpacked, ImageError> {
    let place = Place::new();
    let result = place.unpack(&layer.tar(), target);
    place.assert_untouched();
    result
}

#[test]
fn known_ways_out() {
    let outside = "../outside";
    for (name, layer) in [
        ("dots", Layer::new().file(outside, "owned")),
        ("dots inside", Layer::new().file("a/../../outside", "owned")),
        (
            "absolute",
            Layer::new().file("/outside", "fine: it is the layer's own root"),
        ),
        (
            "link to above",
            Layer::new().symlink("up", "..").file("up/outside", "owned"),
        ),
        (
            "link to root",
            Layer::new()
                .symlink("r", "/")
                .file("r/tmp/berth-escape", "owned"),
        ),
        (
            "link chain",
            Layer::new()
                .symlink("a", "b/..")
                .symlink("b", "../..")
                .file("a/outside", "owned"),
        ),
        (
            "file through link",
            Layer::new().symlink("f", outside).file("f", "owned"),
        ),
        (
            "hard link out",
            Layer::new().hard_link("h", outside).file("h", "owned"),
        ),
        (
            "hard link through link",
            Layer::new()
                .symlink("up", "..")
                .hard_link("h", "up/outside")
                .file("h", "owned"),
        ),
        (
            "link to itself",
            Layer::new().symlink("x", "x").file("x/y", "owned"),
        ),
        ("whiteout of dots", Layer::new().file(".wh...", "")),
        (
            "whiteout through link",
            Layer::new().symlink("up", "..").file("up/.wh.outside", ""),
        ),
        (
            "opaque through link",
            Layer::new().symlink("up", "..").file("up/.wh..wh..opq", ""),
        ),
        (
            "directory over link",
            Layer::new().symlink("up", "..").dir("up", 0o777),
        ),
        (
            "proc",
            Layer::new()
                .symlink("p", "/proc/self/cwd")
                .file("p/outside", "owned"),
        ),
        (
            "replaced parent",
            Layer::new()
                .dir("d", 0o755)
                .file("d/a", "")
                .symlink("d", "..")
                .file("d/outside", "owned"),
        ),
    ] {
        for target in [
            Target::Merged,
            Target::Layer { above_others: true },
            Target::Layer {
                above_others: false,
            },
        ] {
            let result = attempt(&layer, target);
            assert!(
                !std::path::Path::new("/tmp/berth-escape").exists(),
                "{name}"
            );
            if name == "dots" {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("could lead out of the image"), "{error}");
            }
        }
    }
}

#[test]
fn broken_archives_are_refused_in_words() {
    let whole = Layer::new().file("a", "data").tar();
    let mut checksum = whole.clone();
    checksum[0] ^= 1;
    let huge_name = Layer::new().header(
        EntryType::GNULongName,
        "././@LongLink",
        "",
        |h| h.set_size(1 << 40),
        b"",
    );
    let huge_pax = Layer::new().header(EntryType::XHeader, "pax", "", |h| h.set_size(1 << 40), b"");
    for (blob, says) in [
        (whole[..514].to_vec(), "middle of an entry"),
        (whole[..300].to_vec(), "middle of a header"),
        (checksum, "checksum"),
        (huge_name.tar(), "larger than any system"),
        (huge_pax.tar(), "larger than any system"),
        (gzip(&whole)[..40].to_vec(), "decompressed"),
        (
            Layer::new()
                .entry(EntryType::GNUSparse, "s", "", 0o644, b"")
                .tar(),
            "sparse",
        ),
        (
            Layer::new()
                .entry(EntryType::new(b'Q'), "q", "", 0o644, b"")
                .tar(),
            "type 'Q'",
        ),
    ] {
        let error = Place::new()
            .unpack(&blob, Target::Merged)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Names that collide and lead to each other and out.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh..wh..opq",
        "outside",
        ".wh..wh.x"
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn link() -> impl Strategy<Value = String> {
    prop_oneof![
        name(),
        name().prop_map(|n| format!("/{n}")),
        name().prop_map(|n| format!("../{n}"))
    ]
}

fn layer() -> impl Strategy<Value = Layer> {
    let entry = (0..6_u8, name(), link());
    proptest::collection::vec(entry, 1..25).prop_map(|entries| {
        entries
            .into_iter()
            .fold(Layer::new(), |layer, (kind, name, link)| match kind {
                0 => layer.dir(&name, 0o755),
                1 => layer.symlink(&name, &link),
                2 => layer.hard_link(&name, &link),
                3 => layer.entry(EntryType::Fifo, &name, "", 0o644, b""),
                _ => layer.file(&name, "data"),
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_gets_out(layer in layer(), merged: bool) {
        let target = if merged { Target::Merged } else { Target::Layer { above_others: true } };
        let _ = attempt(&layer, target);
    }

    #[test]
    fn noise_is_no_crash(mut layer in layer(), at in any::<prop::sample::Index>(), byte: u8) {
        layer = layer.file("end", "");
        let mut tar = layer.tar();
        let at = at.index(tar.len());
        tar[at] = byte;
        let place = Place::new();
        let _ = place.unpack(&tar, Target::Merged);
        place.assert_untouched();
    }
}
