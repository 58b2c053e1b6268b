//! Config maps that many pods share, kept for some seconds: the token volume of each pod has the same one, and each looks for
//! changes several times a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;

/// Nothing is kept for longer.
const LONGEST: Duration = Duration::from_secs(20);
/// Larger ones are read each time, so that what is kept is bounded by what was asked for in these seconds, times this. In bytes.
const LARGEST: usize = 16 << 10;

/// Config maps by namespace and name, with the time at which they were read.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<(String, String), (Instant, ConfigMap)>>);

impl Recent {
    /// One that was read at most so long ago.
    pub(super) fn get(&self, namespace: &str, name: &str, age: Duration) -> Option<ConfigMap> {
        if age.is_zero() {
            return None;
        }
        let kept = self.0.lock();
        let (read, map) = kept.get(&(namespace.to_owned(), name.to_owned()))?;
        (read.elapsed() < age.min(LONGEST)).then(|| map.clone())
    }

    pub(super) fn keep(&self, namespace: &str, name: &str, map: &ConfigMap) {
        let mut kept = self.0.lock();
        kept.retain(|_, (read, _)| read.elapsed() < LONGEST);
        let key = (namespace.to_owned(), name.to_owned());
        if size(map) <= LARGEST {
            kept.insert(key, (Instant::now(), map.clone()));
        } else {
            kept.remove(&key);
        }
    }
}

/// Its content in bytes.
fn size(map: &ConfigMap) -> usize {
    let text = map.data.iter().flatten().map(|(k, v)| k.len() + v.len());
    let binary = map.binary_data.iter().flatten();
    text.chain(binary.map(|(k, v)| k.len() + v.0.len())).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn map(bytes: usize) -> ConfigMap {
        ConfigMap {
            data: Some(BTreeMap::from([("k".to_owned(), "x".repeat(bytes))])),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn only_what_is_small_and_young_comes_from_here() {
        let recent = Recent::default();
        recent.keep("n", "a", &map(10));
        assert!(recent.get("n", "a", LONGEST).is_some());
        assert!(recent.get("n", "a", Duration::ZERO).is_none());
        assert!(
            recent.get("m", "a", LONGEST).is_none(),
            "another namespace's"
        );
        recent.keep("n", "a", &map(LARGEST));
        assert!(recent.get("n", "a", LONGEST).is_none(), "it has grown");
        std::thread::sleep(Duration::from_millis(2));
        recent.keep("n", "b", &map(10));
        assert!(recent.get("n", "b", Duration::from_nanos(1)).is_none());
    }
}
