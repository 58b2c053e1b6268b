//! Which items of a list repeat an earlier one, in one pass: a client chooses how long the list is.

use std::collections::HashSet;
use std::hash::Hash;

/// For each key, whether an earlier one is the same.
pub(crate) fn repeats<K: Hash + Eq>(keys: impl IntoIterator<Item = K>) -> Vec<bool> {
    let mut seen = HashSet::new();
    keys.into_iter().map(|key| !seen.insert(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_none() {
        assert_eq!(repeats(["a", "b", "a", "a"]), [false, false, true, true]);
    }
}
