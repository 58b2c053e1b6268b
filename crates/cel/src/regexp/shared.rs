//! Expressions that are kept: those of one pattern are compiled once, as long as somebody has them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::Regexp;

/// Expressions that are kept, by their pattern. Definitions of custom resources have the same few hundreds of times: those
/// of quantities and names in each pod template.
static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(|| Mutex::new(Shared::default()));

#[derive(Default)]
struct Shared {
    expressions: HashMap<String, Weak<Regexp>>,
    /// How many there were when those that nobody has any more were last removed.
    in_use: usize,
}

impl Regexp {
    /// Compiles an expression that is kept: as long as somebody has one of the same pattern, this is the same.
    ///
    /// # Errors
    /// As of [`Regexp::compile`].
    pub fn shared(pattern: &str) -> Result<Arc<Self>, String> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regexp) = shared.expressions.get(pattern).and_then(Weak::upgrade) {
            return Ok(regexp);
        }
        drop(shared);
        let regexp = Arc::new(Self::compile(pattern)?);
        shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.expressions.len() > 2 * shared.in_use + 16 {
            shared.expressions.retain(|_, one| one.strong_count() > 0);
            shared.in_use = shared.expressions.len();
        }
        shared
            .expressions
            .insert(pattern.to_owned(), Arc::downgrade(&regexp));
        Ok(regexp)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Regexp, SHARED};

    #[test]
    fn an_expression_is_shared_while_somebody_has_it() {
        let (first, second) = (
            Regexp::shared("^shared-a+$").unwrap(),
            Regexp::shared("^shared-a+$").unwrap(),
        );
        assert!(Arc::ptr_eq(&first, &second));
        assert!(first.matches("shared-aa") && !first.matches("shared-b"));
        for n in 0..1_000 {
            Regexp::shared(&format!("^shared-{n}$")).unwrap();
        }
        let kept = SHARED.lock().unwrap().expressions.len();
        assert!(kept < 500, "{kept} of 1,000 expressions that nobody has");
        assert!(Arc::ptr_eq(&first, &Regexp::shared("^shared-a+$").unwrap()));
    }
}
