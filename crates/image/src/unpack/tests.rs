use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use tar::EntryType;

use super::*;
use crate::options::UnpackLimits;
use crate::testing::{Layer, gzip, zstd};

mod hostile;

/// Unpacks into a directory beside which nothing may change.
struct Place {
    dir: tempfile::TempDir,
    into: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        Self { dir, into }
    }

    fn unpack(&self, blob: &[u8], target: Target) -> Result<Unpacked, ImageError> {
        unpack(blob, &self.into, target, UnpackLimits::default(), "test")
    }

    fn layer(&self, layer: &Layer) -> Unpacked {
        self.unpack(&layer.tar(), Target::Layer { above_others: true })
            .unwrap()
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.into.join(path)).unwrap()
    }

    /// Nothing was made or changed outside of the directory.
    fn assert_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["into", "outside"]);
        assert_eq!(
            fs::read_to_string(self.dir.path().join("outside")).unwrap(),
            "outside"
        );
    }
}

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 100];
    let n = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(n);
    Some(value)
}

#[test]
fn everything_a_tar_can_say() {
    let place = Place::new();
    let layer = Layer::new()
        .header(
            EntryType::Directory,
            "d",
            "",
            |h| (h.set_mode(0o1755), h.set_uid(7), h.set_gid(8)).0,
            b"",
        )
        .header(
            EntryType::Regular,
            "d/suid",
            "",
            |h| (h.set_mode(0o6755), h.set_uid(1000), h.set_mtime(5)).0,
            b"x",
        )
        .hard_link("d/hard", "/d/suid")
        .header(
            EntryType::Symlink,
            "link",
            "/etc/passwd",
            |h| h.set_uid(9),
            b"",
        )
        .header(
            EntryType::Char,
            "null",
            "",
            |h| {
                (
                    h.set_device_major(1).unwrap(),
                    h.set_device_minor(3).unwrap(),
                )
                    .0
            },
            b"",
        )
        .header(EntryType::Fifo, "fifo", "", |h| h.set_mode(0o622), b"")
        .pax(&[
            ("SCHILY.xattr.user.a", "b"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.user.overlay.redirect", "/"),
            ("mtime", "12.5"),
            ("uid", "3000000000"),
        ])
        .file("with-xattr", "")
        .pax(&[("path", &format!("long/{}", "n".repeat(200)))])
        .file("short", "long name");
    let unpacked = place.layer(&layer);
    assert_eq!(unpacked.diff, Digest::of(&layer.tar()));
    assert!(!unpacked.needs_below);
    assert_eq!(
        unpacked.implicit,
        BTreeSet::from([b"".to_vec(), b"long".to_vec()])
    );
    let (d, suid, link) = (place.meta("d"), place.meta("d/suid"), place.meta("link"));
    assert_eq!(
        (d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()),
        (0o1755, 7, 8, 1_000_000_000)
    );
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.mtime(), suid.nlink()),
        (0o6755, 1000, 5, 2)
    );
    assert_eq!(
        (link.uid(), fs::read_link(place.into.join("link")).unwrap()),
        (9, PathBuf::from("/etc/passwd"))
    );
    assert!(place.meta("null").file_type().is_char_device());
    assert_eq!(place.meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(place.meta("fifo").file_type().is_fifo() && place.meta("fifo").mode() & 0o777 == 0o622);
    let with = place.meta("with-xattr");
    assert_eq!(
        (with.mtime(), with.mtime_nsec(), with.uid()),
        (12, 500_000_000, 3_000_000_000)
    );
    let path = place.into.join("with-xattr");
    assert_eq!(xattr(&path, "user.a").unwrap(), b"b");
    assert!(
        xattr(&path, "trusted.overlay.opaque").is_none()
            && xattr(&path, "user.overlay.redirect").is_none()
    );
    assert!(place.into.join("long").join("n".repeat(200)).exists());
}

#[test]
fn whiteouts_become_overlayfs_own() {
    let place = Place::new();
    place.layer(
        &Layer::new()
            .file("d/.wh.gone", "")
            .file("o/.wh..wh..opq", "")
            .file("o/new", "")
            .dir("again", 0o755)
            .file("again/x", "")
            .file(".wh.again", "")
            .file(".wh.later", "")
            .dir("later", 0o755)
            .file("here", "this layer's")
            .file(".wh.here", "")
            .file(".wh..wh.plnk/1.2", ""),
    );
    let gone = place.meta("d/gone");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |path: &str| {
        xattr(&place.into.join(path), "trusted.overlay.opaque").as_deref() == Some(b"y".as_slice())
    };
    assert!(opaque("o") && opaque("again") && opaque("later") && !opaque("d"));
    assert!(place.into.join("again/x").exists() && place.into.join("o/new").exists());
    assert_eq!(
        fs::read_to_string(place.into.join("here")).unwrap(),
        "this layer's"
    );
    assert!(!place.into.join(".wh..wh.plnk").exists());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    place.layer(
        &Layer::new()
            .file("a", "1")
            .file("a", "2")
            .dir("b", 0o700)
            .file("b/c", "")
            .file("b", "now a file")
            .symlink("l", "elsewhere")
            .dir("l", 0o755)
            .dir("kept", 0o700)
            .file("kept/f", "")
            .dir("kept", 0o711),
    );
    assert_eq!(fs::read_to_string(place.into.join("a")).unwrap(), "2");
    assert_eq!(
        fs::read_to_string(place.into.join("b")).unwrap(),
        "now a file"
    );
    assert!(place.meta("l").is_dir());
    assert!(place.into.join("kept/f").exists() && place.meta("kept").mode() & 0o777 == 0o711);
}

#[test]
fn what_needs_the_layers_below_says_so() {
    for layer in [
        Layer::new().hard_link("new", "etc/below"),
        Layer::new().symlink("lib", "usr/lib").file("lib/x", ""),
        Layer::new().file(".wh..wh..opq", ""),
    ] {
        assert!(Place::new().layer(&layer).needs_below);
    }
}

#[test]
fn on_top_of_others_whiteouts_remove() {
    let place = Place::new();
    for (path, text) in [
        ("d/old", ""),
        ("o/old", ""),
        ("below", "below"),
        ("t/deep/old", ""),
    ] {
        let path = place.into.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let layer = Layer::new()
        .file("d/.wh.old", "")
        .file("o/new", "")
        .file("o/.wh..wh..opq", "")
        .file("t/deep/new", "")
        .file(".wh.t", "")
        .hard_link("linked", "below")
        .symlink("lib", "usr/lib")
        .file("lib/x", "");
    let unpacked = place.unpack(&layer.tar(), Target::Merged).unwrap();
    assert!(!unpacked.needs_below);
    for gone in ["d/old", "o/old", "t/deep/old"] {
        assert!(!place.into.join(gone).exists(), "{gone}");
    }
    for there in ["o/new", "t/deep/new", "usr/lib/x", "linked"] {
        assert!(place.into.join(there).exists(), "{there}");
    }
}

#[test]
fn limits_have_words() {
    let unpack_with = |limits: UnpackLimits, blob: &[u8]| {
        let place = Place::new();
        unpack(blob, &place.into, Target::Merged, limits, "test").unwrap_err()
    };
    let zeros = Layer::new().file("zeros", &"\0".repeat(8 << 20)).tar();
    let base = UnpackLimits::default();
    let small = UnpackLimits {
        bytes: 1 << 20,
        ..base
    };
    let ratio = UnpackLimits {
        ratio: 50,
        ratio_from: 1 << 20,
        ..base
    };
    for (limits, blob, says) in [
        (small, zeros.clone(), "1048576 bytes"),
        (ratio, gzip(&zeros), "50 times"),
        (ratio, zstd(&zeros), "50 times"),
        (
            UnpackLimits { entries: 2, ..base },
            Layer::new().file("a", "").file("b", "").file("c", "").tar(),
            "2 entries",
        ),
    ] {
        let error = unpack_with(limits, &blob);
        assert!(
            matches!(error, ImageError::OverLimit { .. }) && error.to_string().contains(says),
            "{error}"
        );
    }
    let full = unpack_with(
        UnpackLimits {
            keep_free: u64::MAX,
            ..base
        },
        &Layer::new().file("a", "1").tar(),
    );
    assert!(matches!(full, ImageError::LowSpace { .. }), "{full}");
}

#[test]
fn a_frame_that_wants_too_much_memory_is_refused() {
    let tar = Layer::new().file("a", "1").tar();
    let with = |log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        io::Write::write_all(&mut encoder, &tar).unwrap();
        encoder.finish().unwrap()
    };
    for log in [20, 27] {
        Place::new().unpack(&with(log), Target::Merged).unwrap();
    }
    let mut huge = with(27);
    huge[5] = (31 - 10) << 3;
    let mut later = with(20);
    later.extend(with(27));
    for (blob, says) in [(huge, "window of 2147483648 bytes"), (later, "memory")] {
        let error = Place::new().unpack(&blob, Target::Merged).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn members_and_frames_one_after_the_other_are_one_archive() {
    let tar = Layer::new().file("a", "1").file("b", "2").tar();
    let (one, two) = tar.split_at(700);
    for pack in [gzip, zstd] {
        let place = Place::new();
        let unpacked = place
            .unpack(&[pack(one), pack(two)].concat(), Target::Merged)
            .unwrap();
        assert_eq!(unpacked.diff, Digest::of(&tar));
        assert!(place.into.join("b").exists());
    }
}
