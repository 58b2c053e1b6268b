//! Ways in for the fuzz targets under `fuzz/`; only there with the feature `fuzzing`.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::options::UnpackLimits;
use crate::unpack::{Target, unpack};

/// One directory for the whole run, with a file beside the place that layers go to.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let place = std::env::temp_dir().join(format!("berth-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    let made = fs::create_dir(&place).and_then(|()| fs::write(place.join("outside"), "outside"));
    assert!(made.is_ok(), "{} can't be used: {made:?}", place.display());
    place
});

/// Unpacks any bytes in every way there is and looks whether they got out.
///
/// # Panics
/// They got out.
pub fn unpack_anything(data: &[u8]) {
    let limits = UnpackLimits {
        bytes: 1 << 20,
        entries: 200,
        ..UnpackLimits::default()
    };
    for target in [
        Target::Merged,
        Target::Layer { above_others: true },
        Target::Layer {
            above_others: false,
        },
    ] {
        let into = PLACE.join("into");
        let _ = fs::remove_dir_all(&into);
        assert!(fs::create_dir(&into).is_ok());
        let _ = unpack(data, &into, target, limits, "fuzz");
        let names = fs::read_dir(&*PLACE).map(Iterator::count);
        let outside = fs::read(PLACE.join("outside"));
        assert!(
            matches!(names, Ok(2)) && outside.is_ok_and(|o| o == b"outside"),
            "an archive got out"
        );
    }
}
