//! Names that the server makes up: `metadata.generateName` and what follows it.

use berth_api::names::GENERATED_ALPHABET as ALPHABET;
use rand::RngExt;

/// Length of the random part of a generated name.
const SUFFIX_LENGTH: usize = 5;
/// Longest prefix that a generated name keeps.
const PREFIX_MAX: usize = 63 - SUFFIX_LENGTH;

/// A name that begins with `prefix`, or as much of it as fits.
pub(crate) fn generate(prefix: &str) -> String {
    let mut kept = prefix.to_owned();
    if kept.len() > PREFIX_MAX {
        let mut end = PREFIX_MAX;
        while !kept.is_char_boundary(end) {
            end -= 1;
        }
        kept.truncate(end);
    }
    kept.push_str(&suffix());
    kept
}

/// The random part of a generated name.
pub(crate) fn suffix() -> String {
    let mut rng = rand::rng();
    (0..SUFFIX_LENGTH)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
