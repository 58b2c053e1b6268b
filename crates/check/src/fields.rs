//! Fields that a kind doesn't have, and kinds that a group doesn't have.

use berth_core::advice::Advice;
use berth_core::nearest::nearest;

/// Fields of classes and pods that are misspelt or put at the wrong place, by their names.
const KNOWN: [&str; 24] = [
    "handler",
    "overhead",
    "podFixed",
    "scheduling",
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "hostUsers",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "nodeName",
    "containers",
    "initContainers",
    "securityContext",
    "privileged",
    "appArmorProfile",
    "seccompProfile",
    "recursiveReadOnly",
    "volumeMounts",
    "volumes",
    "resources",
    "requests",
    "annotations",
];

/// Kinds that are looked at, with the apiVersion that they have.
const KINDS: [(&str, &str); 12] = [
    ("RuntimeClass", "node.k8s.io/v1"),
    ("Pod", "v1"),
    ("Namespace", "v1"),
    ("Node", "v1"),
    ("ResourceQuota", "v1"),
    ("ReplicationController", "v1"),
    ("Deployment", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("CronJob", "batch/v1"),
];

/// Groups of Kubernetes' own: a kind of another group may be anybody's.
const STOCK: [&str; 8] = [
    "",
    "core",
    "apps",
    "batch",
    "node.k8s.io",
    "extensions",
    "policy",
    "scheduling.k8s.io",
];

/// The group of an apiVersion; empty for the core group.
pub(super) fn group_of(version: &str) -> &str {
    version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// The advice about a kind under an apiVersion that doesn't have it.
pub(super) fn wrong_group(version: &str, kind: &str) -> Option<Advice> {
    let (_, right) = KINDS.iter().copied().find(|(known, _)| *known == kind)?;
    let (given, wanted) = (group_of(version), group_of(right));
    let is_other = given != wanted && STOCK.contains(&given);
    // Older versions of a class are migrated, and told as such.
    let known = matches!(
        version,
        "node.k8s.io/v1" | "node.k8s.io/v1beta1" | "node.k8s.io/v1alpha1"
    );
    let is_unknown = kind == "RuntimeClass" && given == wanted && !known;
    (is_other || is_unknown).then(|| Advice::WrongGroup {
        kind: kind.to_owned(),
        version: version.to_owned(),
        right: right.to_owned(),
    })
}

/// The advice about fields that a type lacks, by their paths.
pub(super) fn unknown(paths: &[String], at: &str) -> Vec<Advice> {
    paths
        .iter()
        .map(|path| {
            let moved = if at == "spec" {
                path.clone()
            } else {
                match path.strip_prefix("spec.") {
                    Some(rest) => format!("{at}.{rest}"),
                    None => format!("{}.{path}", at.trim_end_matches(".spec")),
                }
            };
            Advice::UnknownField {
                meant: meant(&moved),
                path: moved,
            }
        })
        .collect()
}

/// The field that was meant, by its whole path.
fn meant(path: &str) -> Option<String> {
    let (outer, name) = path.rsplit_once('.').unwrap_or(("", path));
    let join = |name: &str| match outer {
        "" => name.to_owned(),
        outer => format!("{outer}.{name}"),
    };
    if outer == "overhead" && matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return Some(join(&format!("podFixed.{name}")));
    }
    let same = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
    let longer = || {
        let begins = |known: &&&str| known.starts_with(name) && name.len() > 4;
        KNOWN.iter().find(begins)
    };
    let found = same.or_else(longer).copied();
    found.or_else(|| nearest(name, KNOWN)).map(join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        for (path, wanted) in [
            ("spec.runtimeClass", Some("spec.runtimeClassName")),
            ("spec.runtimeclassname", Some("spec.runtimeClassName")),
            (
                "spec.template.spec.runtimClassName",
                Some("spec.template.spec.runtimeClassName"),
            ),
            ("overhead.cpu", Some("overhead.podFixed.cpu")),
            ("overhead.podfixed", Some("overhead.podFixed")),
            ("handlr", Some("handler")),
            ("spec.frob", None),
        ] {
            assert_eq!(meant(path).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn kinds_have_one_group() {
        let right = |version: &str, kind: &str| match wrong_group(version, kind) {
            Some(Advice::WrongGroup { right, .. }) => Some(right),
            _ => None,
        };
        for (version, kind, wanted) in [
            ("v1", "RuntimeClass", Some("node.k8s.io/v1")),
            ("node.k8s.io/v2", "RuntimeClass", Some("node.k8s.io/v1")),
            ("node.k8s.io/v1", "RuntimeClass", None),
            ("node.k8s.io/v1alpha1", "RuntimeClass", None),
            ("v1", "Deployment", Some("apps/v1")),
            ("extensions/v1beta1", "Deployment", Some("apps/v1")),
            ("apps/v1", "Deployment", None),
            ("batch/v1beta1", "CronJob", None),
            ("apps/v1", "Pod", Some("v1")),
            // Somebody else's kind of the same name.
            ("batch.volcano.sh/v1alpha1", "Job", None),
            ("example.com/v1", "RuntimeClass", None),
            ("v1", "ConfigMap", None),
        ] {
            assert_eq!(right(version, kind).as_deref(), wanted, "{version} {kind}");
        }
    }
}
