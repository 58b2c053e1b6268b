//! What still names a class that is deleted.

use std::sync::Arc;

use berth_core::advice::Advice;
use berth_rules::admission::namespace_policy;
use k8s_openapi::api::core::v1::Namespace;
use memchr::memmem;

use super::{ClassAdvice, WORKLOADS};
use crate::admission::NAMESPACES;
use crate::metadata::text;
use crate::storage::Stored;
use crate::user::User;

/// How many objects of a kind are looked at.
const LIMIT: usize = 100_000;

impl ClassAdvice {
    /// What names a class, among what the user may list. Who may not list a kind does not learn that any of it names the class.
    pub(super) fn named_by(&self, user: &User, class: &str) -> Option<Advice> {
        let mut parts = Vec::new();
        if self.may_list(user, "", "pods") {
            let running = |pod: &serde_json::Value| {
                !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
                    && text(pod, "/spec/runtimeClassName") == class
            };
            add(
                &mut parts,
                self.count("core/pods", class, running),
                "pod(s)",
            );
        }
        let mut workloads = 0;
        for (group, plural, template) in WORKLOADS {
            if !self.may_list(user, group, plural) {
                continue;
            }
            let storage = format!("{}/{plural}", if group.is_empty() { "core" } else { group });
            let at = format!("{template}/spec/runtimeClassName");
            workloads += self.count(&storage, class, |object| {
                // What another one makes is counted there.
                object["metadata"]["ownerReferences"].is_null() && text(object, &at) == class
            });
        }
        add(&mut parts, workloads, "workload(s)");
        if self.may_list(user, "", "namespaces") {
            let namespaces = self.storage.list(NAMESPACES, None);
            let named = namespaces.iter().take(LIMIT).filter(|stored| {
                stored.shared::<Namespace>().is_ok_and(|namespace| {
                    namespace_policy::names(namespace.metadata.annotations.as_ref(), class)
                })
            });
            add(&mut parts, named.count(), "namespace(s)");
        }
        (!parts.is_empty()).then(|| Advice::ClassInUse {
            class: class.to_owned(),
            by: parts.join(", "),
        })
    }

    /// How many objects meet a condition; only those whose text has the name of the class are decoded.
    fn count(
        &self,
        storage: &str,
        class: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> usize {
        let wanted = format!("\"runtimeClassName\":\"{class}\"");
        let finder = memmem::Finder::new(&wanted);
        let has = |stored: &&Arc<Stored>| finder.find(&stored.bytes).is_some();
        let stored = self.storage.list(storage, None);
        let found = stored.iter().take(LIMIT).filter(has);
        found
            .filter(|stored| stored.value().is_ok_and(|object| is_so(&object)))
            .count()
    }
}

fn add(parts: &mut Vec<String>, count: usize, what: &str) {
    if count > 0 {
        parts.push(format!("{count} {what}"));
    }
}
