//! How objects are named in the store.
//!
//! Built-in kinds: `/registry/GROUP/PLURAL/[NAMESPACE/]NAME`, the core group being `core`. Custom resources have a
//! place of their own, so that no definition can name the objects of a built-in kind:
//! `/registry/custom/GROUP/PLURAL/[NAMESPACE/]NAME`.

/// Prefix of all objects.
pub const ROOT: &str = "/registry/";
/// First part of the storage name of custom resources; no group of a built-in kind has this name.
const CUSTOM: &str = "custom";

/// Prefix of the keys that writes of a namespace change together; no object has such a key, it has one part too few.
const GUARDS: &str = "/registry/guards/";

/// The guard of a namespace.
#[must_use]
pub(crate) fn guard(namespace: &str) -> String {
    format!("{GUARDS}{namespace}")
}

/// The namespace of a guard.
#[must_use]
pub(crate) fn guarded(key: &str) -> Option<&str> {
    key.strip_prefix(GUARDS)
}

/// Whether a key is that of a guard.
#[must_use]
pub(crate) fn is_guard(key: &str) -> bool {
    guarded(key).is_some_and(|namespace| !namespace.contains('/'))
}

/// Storage name of the objects of a CustomResourceDefinition.
#[must_use]
pub fn custom(group: &str, plural: &str) -> String {
    format!("{CUSTOM}/{group}/{plural}")
}

/// Whether a storage name is that of custom resources.
#[must_use]
pub fn is_custom(storage: &str) -> bool {
    storage
        .strip_prefix(CUSTOM)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Group and plural of a storage name; the core group's is empty.
#[must_use]
pub fn group_resource(storage: &str) -> (&str, &str) {
    let (group, resource) = storage.rsplit_once('/').unwrap_or(("", storage));
    match group.strip_prefix(CUSTOM).and_then(|g| g.strip_prefix('/')) {
        Some(group) => (group, resource),
        None if group == "core" => ("", resource),
        None => (group, resource),
    }
}

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

/// The storage name of a key.
#[must_use]
pub fn storage_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(ROOT)?;
    let parts = if is_custom(rest) { 3 } else { 2 };
    let (end, _) = rest.match_indices('/').nth(parts - 1)?;
    Some(&rest[..end])
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
        let widgets = custom("example.com", "widgets");
        for (storage, namespace, name, tail) in [
            ("core/pods", "default", "x", "default/x"),
            ("node.k8s.io/runtimeclasses", "", "gvisor", "gvisor"),
            (widgets.as_str(), "default", "w", "default/w"),
            (widgets.as_str(), "", "w", "w"),
        ] {
            let key = object(storage, namespace, name);
            assert_eq!(storage_of(&key), Some(storage));
            assert_eq!(tail_of(&key, storage), Some(tail));
            assert_eq!(name_of(&key, storage), (namespace, name));
            assert!(key.starts_with(&prefix(storage, Some(namespace))));
        }
        assert_eq!(storage_of("/registry/pods"), None);
        assert_eq!(storage_of("/registry/custom/example.com/widgets"), None);
        assert_eq!(storage_of("/other"), None);
        let guard = guard("default");
        assert!(is_guard(&guard) && storage_of(&guard).is_none());
        assert!(!is_guard("/registry/guards/example.com/x"));
    }

    #[test]
    fn group_and_plural_are_those_of_the_kind() {
        let widgets = custom("example.com", "widgets");
        assert_eq!(group_resource("core/pods"), ("", "pods"));
        assert_eq!(
            group_resource("node.k8s.io/runtimeclasses"),
            ("node.k8s.io", "runtimeclasses")
        );
        assert_eq!(group_resource(&widgets), ("example.com", "widgets"));
    }

    #[test]
    fn no_definition_has_the_objects_of_a_built_in_kind() {
        for group in ["core", "custom", "", "node.k8s.io"] {
            let storage = custom(group, "pods");
            assert!(is_custom(&storage));
            assert!(object(&storage, "default", "x").starts_with("/registry/custom/"));
        }
        for built_in in ["core/pods", "customs.example.com/x"] {
            assert!(!is_custom(built_in));
        }
    }
}
