//! Bounds on the work for one object: schema and object are a client's, and the work is their product.

/// Bytes of defaults that are filled in: one of a megabyte at each item of a long list would be terabytes.
pub(crate) const DEFAULTS_MAX: usize = 3 << 20;
/// Schemas and their parts that are looked at for an object.
pub(crate) const STEPS_MAX: usize = 5_000_000;
/// Characters of a path that are reported.
pub(crate) const MAX_PATH_CHARS: usize = 1_000;

/// An object and a schema that cost more than they are worth together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Defaults.
    #[error("the defaults of the schema add more than {DEFAULTS_MAX} bytes to the object")]
    Defaults,
    /// Work.
    #[error("the object has more items and the schema more parts than can be checked together")]
    Steps,
}

/// Takes steps out of what may still be done.
pub(crate) fn spend(steps: &mut usize, count: usize) -> Result<(), TooMuch> {
    *steps = steps.checked_sub(count).ok_or(TooMuch::Steps)?;
    Ok(())
}

/// One path, which grows and shrinks on the way: a client chooses how long its parts are.
#[derive(Default)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes to a field; the answer is for [`Self::back`].
    pub(crate) fn field(&mut self, name: &str) -> usize {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        length
    }

    pub(crate) fn key(&mut self, key: &str) -> usize {
        let length = self.0.len();
        self.0.push('[');
        self.0.push_str(key);
        self.0.push(']');
        length
    }

    pub(crate) fn index(&mut self, index: usize) -> usize {
        self.key(&index.to_string())
    }

    pub(crate) fn back(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The path as it is shown.
    pub(crate) fn shown(&self) -> String {
        self.0.chars().take(MAX_PATH_CHARS).collect()
    }
}
