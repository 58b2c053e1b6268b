//! Files of the kernel's.

use std::io::Read as _;
use std::path::Path;

/// No file of the kernel's that is read here is longer.
const FILE_BYTES: u64 = 64 << 10;

/// A file of the kernel's; `None` when it isn't there.
pub(super) fn text(dir: &Path, file: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(dir.join(file)).ok()?;
    file.take(FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}
