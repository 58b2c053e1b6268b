//! What the operations of one JSON patch may cost together.

use std::io::{self, Write};

use berth_api::decode::{MAX_DEPTH, TooDeep};
use serde_json::Value;

use super::{Operation, Pointer, index};
use crate::patch::PatchError;

/// The stock server's limit on what `copy` adds, in bytes of JSON.
const MAX_COPIED_BYTES: u64 = 3 << 20;
/// Values that may be looked at or shifted. A patch for an object of the largest size needs a hundredth.
const MAX_WORK: u64 = 30_000_000;
/// While a patch is carried out it may be a little above what the result may be, which is judged at its end.
const MAX_PATCHED_DEPTH: usize = MAX_DEPTH + 10;

/// What was spent so far.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    copied: u64,
    work: u64,
}

impl Bounds {
    /// Refuses an operation before it is carried out on `document`.
    pub(super) fn check(
        &mut self,
        document: &Value,
        operation: &Operation,
    ) -> Result<(), PatchError> {
        match operation {
            Operation::Add { path, value } => {
                self.shift(document, path)?;
                self.nest(path, value)
            }
            Operation::Replace { path, value } => self.nest(path, value),
            Operation::Remove { path } => self.shift(document, path),
            Operation::Move { from, path } => {
                self.shift(document, from)?;
                self.shift(document, path)?;
                match from.find(document) {
                    Some(value) => self.nest(path, value),
                    // The operation fails, and says so itself.
                    None => Ok(()),
                }
            }
            Operation::Copy { from, path } => {
                self.shift(document, path)?;
                let Some(value) = from.find(document) else {
                    return Ok(());
                };
                let mut size = Count(0);
                serde_json::to_writer(&mut size, value).map_err(PatchError::unprocessable)?;
                self.copied += size.0;
                if self.copied > MAX_COPIED_BYTES {
                    return Err(PatchError::CopiesTooMuch {
                        limit: MAX_COPIED_BYTES,
                        got: self.copied,
                    });
                }
                self.nest(path, value)
            }
            // What is compared ends where the value of the patch does.
            Operation::Test { .. } => Ok(()),
        }
    }

    /// A value at a path must not nest too deep; that it never does keeps every walk over a value safe.
    fn nest(&mut self, path: &Pointer, value: &Value) -> Result<(), PatchError> {
        match MAX_PATCHED_DEPTH.checked_sub(path.depth()) {
            Some(levels) => self.look(value, levels),
            None => Err(PatchError::unprocessable(TooDeep)),
        }
    }

    fn look(&mut self, value: &Value, levels: usize) -> Result<(), PatchError> {
        self.spend(1)?;
        match (value, levels.checked_sub(1)) {
            (Value::Array(items), Some(left)) => {
                items.iter().try_for_each(|item| self.look(item, left))
            }
            (Value::Object(map), Some(left)) => {
                map.values().try_for_each(|item| self.look(item, left))
            }
            (Value::Array(_) | Value::Object(_), None) => Err(PatchError::unprocessable(TooDeep)),
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => Ok(()),
        }
    }

    /// What is put into a list or taken out of it moves all that follows.
    fn shift(&mut self, document: &Value, path: &Pointer) -> Result<(), PatchError> {
        let Some(Value::Array(items)) = path.parent(document) else {
            return Ok(());
        };
        match index(path.key(), items.len()) {
            // A block of memory is moved much faster than its values are looked at.
            Some(at) => self.spend((items.len() - at) as u64 / 16),
            None => Ok(()),
        }
    }

    fn spend(&mut self, work: u64) -> Result<(), PatchError> {
        self.work += work;
        if self.work > MAX_WORK {
            return Err(PatchError::MovesTooMuch { limit: MAX_WORK });
        }
        Ok(())
    }
}

/// Counts bytes.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
