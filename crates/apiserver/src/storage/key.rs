//! How objects are named in the store.

/// Prefix of all objects.
pub const ROOT: &str = "/registry/";

/// Key of an object; `namespace` is empty for cluster-scoped kinds.
#[must_use]
pub fn object(storage: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{ROOT}{storage}/{name}")
    } else {
        format!("{ROOT}{storage}/{namespace}/{name}")
    }
}

/// Prefix of the objects of a namespace, or of all.
#[must_use]
pub fn prefix(storage: &str, namespace: Option<&str>) -> String {
    match namespace {
        None | Some("") => format!("{ROOT}{storage}/"),
        Some(namespace) => format!("{ROOT}{storage}/{namespace}/"),
    }
}

/// The storage name (`group/plural`) of a key.
#[must_use]
pub fn storage_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(ROOT)?;
    let group_end = rest.find('/')?;
    let plural_end = rest[group_end + 1..].find('/')?;
    Some(&rest[..group_end + 1 + plural_end])
}

/// The part of a key after the storage name: `name` or `namespace/name`.
#[must_use]
pub fn tail_of<'a>(key: &'a str, storage: &str) -> Option<&'a str> {
    key.strip_prefix(ROOT)?
        .strip_prefix(storage)?
        .strip_prefix('/')
}

/// Namespace (empty for cluster-scoped kinds) and name of a key of this storage name.
#[must_use]
pub fn name_of<'a>(key: &'a str, storage: &str) -> (&'a str, &'a str) {
    let tail = tail_of(key, storage).unwrap_or(key);
    tail.split_once('/').unwrap_or(("", tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_as_they_were_made() {
        for (storage, namespace, name, tail) in [
            ("core/pods", "default", "x", "default/x"),
            ("node.k8s.io/runtimeclasses", "", "gvisor", "gvisor"),
        ] {
            let key = object(storage, namespace, name);
            assert_eq!(storage_of(&key), Some(storage));
            assert_eq!(tail_of(&key, storage), Some(tail));
            assert_eq!(name_of(&key, storage), (namespace, name));
            assert!(key.starts_with(&prefix(storage, Some(namespace))));
        }
        assert_eq!(storage_of("/registry/pods"), None);
        assert_eq!(storage_of("/other"), None);
    }
}
