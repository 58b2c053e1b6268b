//! The one table of what is served. A kind is a row plus its rules, never a new handler.

mod connect;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use berth_api::status::ApiError;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::printer::Printer;
use crate::protobuf;
use crate::storage::key;
use crate::strategy::Strategy;

pub use connect::Connect;

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace each.
    Namespaced,
    /// None.
    Cluster,
}

/// A group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gvk {
    /// Group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl Gvk {
    /// A group, version and kind.
    #[must_use]
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// `group/version`, or only the version in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }
}

/// `group/version`, or only the version in the core group.
#[must_use]
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Which code answers a subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubresourceHandler {
    /// get, update and patch of the object's status.
    Status,
    /// pods/binding, and bindings.
    Binding,
    /// pods/eviction.
    Eviction,
    /// pods/ephemeralcontainers.
    EphemeralContainers,
    /// pods/resize.
    Resize,
    /// namespaces/finalize.
    Finalize,
    /// `scale` of what has replicas.
    Scale,
    /// certificatesigningrequests/approval.
    Approval,
    /// serviceaccounts/token ([`crate::tokens`]).
    Token,
    /// Passed on to a node ([`crate::proxy`]): pods log, exec, attach, portforward, proxy; nodes proxy.
    Connect,
}

/// A subresource of a row.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Name in the path, e.g. `status`.
    pub name: &'static str,
    /// Kind that it takes and answers.
    pub gvk: Gvk,
    /// Verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Which code answers it.
    pub handler: SubresourceHandler,
}

/// What a kind that is not stored is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// SelfSubjectReview: who am I?
    SelfSubject,
    /// TokenReview: whose token is it?
    Token,
    /// SubjectAccessReview: may somebody do this?
    SubjectAccess,
    /// LocalSubjectAccessReview: the same, of one namespace.
    LocalSubjectAccess,
    /// SelfSubjectAccessReview: may I do this?
    SelfSubjectAccess,
    /// SelfSubjectRulesReview: what may I do?
    SelfSubjectRules,
}

/// What answers a resource's own path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceHandler {
    /// Objects in the store, through the generic verbs.
    Stored,
    /// Nothing is stored: a create is answered by [`crate::reviews`].
    Review(Review),
    /// core/v1 `bindings`: create only.
    Binding,
    /// Objects that are got and listed, and that nobody writes.
    ReadOnly,
    /// What nodes or pods use ([`crate::resource_metrics`]): got and listed, and made when it is asked for.
    Measured(Measured),
}

/// Of what use is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Nodes.
    Nodes,
    /// The containers of pods.
    Pods,
}

impl Measured {
    /// Where the objects are stored that are measured.
    #[must_use]
    pub fn storage(self) -> &'static str {
        match self {
            Self::Nodes => "core/nodes",
            Self::Pods => "core/pods",
        }
    }
}

/// Converts an object between two versions of its row, in place; `apiVersion` included.
pub type Convert = Arc<
    dyn Fn(&mut serde_json::Value, &str, &str) -> Result<(), berth_api::status::ApiError>
        + Send
        + Sync,
>;

/// Who converts objects of a row that nothing here can convert, in batches.
pub(crate) trait Converter: Send + Sync {
    /// Converts objects of one other version each, in their order.
    fn convert<'a>(
        &'a self,
        objects: Vec<serde_json::Value>,
        to: &'a str,
        deadline: tokio::time::Instant,
    ) -> BoxFuture<'a, Result<Vec<serde_json::Value>, ApiError>>;

    /// What an object was converted to not long ago.
    fn recall(&self, key: &ConverterKey) -> Option<Bytes>;

    /// Keeps what an object was converted to.
    fn remember(&self, key: ConverterKey, object: Bytes);
}

/// A state of an object, in another version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConverterKey {
    /// Namespace; empty for cluster-scoped kinds.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
    /// Revision of the state.
    pub(crate) revision: i64,
    /// The version.
    pub(crate) to: String,
}

/// One row: a resource in one group, with all of its versions.
pub struct Resource {
    /// Group; empty for the core group.
    pub group: String,
    /// Served versions, the preferred one first.
    pub versions: Vec<String>,
    /// The version that is stored and cached.
    pub storage_version: String,
    /// Kind.
    pub kind: String,
    /// Kind of its lists.
    pub list_kind: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names that kubectl takes.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Scope.
    pub scope: Scope,
    /// Verbs, as discovery lists them.
    pub verbs: Vec<&'static str>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// What answers it.
    pub handler: ResourceHandler,
    /// Part of the key in the store, `group/plural`, e.g. `core/pods` or
    /// `node.k8s.io/runtimeclasses`. Rows with the same value share their objects (events).
    pub storage: String,
    /// Group and version of the objects in `storage` when another row owns it.
    pub storage_gvk: Gvk,
    /// The rules of the kind.
    pub(crate) strategy: Arc<dyn Strategy>,
    /// Printed columns.
    pub printer: Printer,
    /// Conversion between `storage_gvk`'s version and the served ones; none when there is but one.
    pub convert: Option<Convert>,
    /// Who converts instead, for kinds of which `convert` can only refuse.
    pub(crate) converter: Option<Arc<dyn Converter>>,
    /// OpenAPI v3 schema of each version, as JSON text, for rows that were added at run time; built-in rows have
    /// theirs from the k8s-openapi types.
    pub schemas: BTreeMap<String, Arc<str>>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.plural)
    }
}

impl Resource {
    /// `group/version` of one of its versions.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        group_version(&self.group, version)
    }

    /// Whether `version` is served.
    #[must_use]
    pub fn serves(&self, version: &str) -> bool {
        self.versions.iter().any(|v| v == version)
    }

    /// Whether its objects have a protobuf form in this version.
    #[must_use]
    pub fn has_message(&self, version: &str) -> bool {
        !key::is_custom(&self.storage) && protobuf::has_form(&self.api_version(version), &self.kind)
    }

    /// The subresource `name`.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether objects live in a namespace.
    #[must_use]
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// `plural` or `plural.group`, as messages name it.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

/// All rows at one moment.
#[derive(Debug, Default, Clone)]
pub struct Table {
    rows: Vec<Arc<Resource>>,
    /// So many of the first rows are the server's own and stay as they are.
    built_in: usize,
    /// Rows of the server's own that others may take the place of, whether they are served now or not.
    optional: Vec<Arc<Resource>>,
    /// Counts changes of the table, for caches of what is made from it.
    pub generation: u64,
}

impl Table {
    /// All rows, in the order that discovery lists them.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The rows that the server has whatever its clients define.
    #[must_use]
    pub fn built_in(&self) -> &[Arc<Resource>] {
        self.rows.get(..self.built_in).unwrap_or_default()
    }

    /// Whether the server itself has kinds of this group.
    #[must_use]
    pub fn is_built_in_group(&self, group: &str) -> bool {
        self.built_in().iter().any(|row| row.group == group)
    }

    /// Whether the server has kinds of this group that others may take the place of.
    #[must_use]
    pub fn is_optional_group(&self, group: &str) -> bool {
        self.optional.iter().any(|row| row.group == group)
    }

    /// The row for a group, a version that it serves and a plural name.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.rows
            .iter()
            .find(|r| r.plural == plural && r.group == group && r.serves(version))
    }

    /// The row for a group and a plural name, whatever the version.
    #[must_use]
    pub fn find_any(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.rows
            .iter()
            .find(|r| r.plural == plural && r.group == group)
    }

    /// The row for a kind.
    #[must_use]
    pub fn find_kind(&self, group: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.rows
            .iter()
            .find(|r| r.kind == kind && r.group == group && r.handler == ResourceHandler::Stored)
    }

    /// Groups with their versions, each in the order of first mention; the core group first.
    #[must_use]
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let at = match groups.iter().position(|(g, _)| *g == row.group) {
                Some(at) => at,
                None => {
                    groups.push((row.group.clone(), Vec::new()));
                    groups.len() - 1
                }
            };
            for version in &row.versions {
                if !groups[at].1.contains(version) {
                    groups[at].1.push(version.clone());
                }
            }
        }
        groups
    }
}

/// A row that would stand in for what the server has itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group {group:?} is served by the API server itself; choose another group for {plural:?}"
)]
pub struct BuiltInGroup {
    /// The group.
    pub group: String,
    /// The plural name.
    pub plural: String,
}

/// The table, which grows and shrinks with CustomResourceDefinitions. What it was made with stays.
#[derive(Debug)]
pub struct Registry {
    table: ArcSwap<Table>,
}

impl Registry {
    /// A registry of the given rows, which are the server's own.
    #[must_use]
    pub fn new(rows: Vec<Resource>) -> Self {
        Self::with_optional(rows, Vec::new())
    }

    /// The same, with rows that are served unless [`Registry::offer`] says that somebody else serves their group.
    #[must_use]
    pub fn with_optional(rows: Vec<Resource>, optional: Vec<Resource>) -> Self {
        let built_in = rows.len();
        let optional: Vec<_> = optional.into_iter().map(Arc::new).collect();
        let rows = rows.into_iter().map(Arc::new);
        Self {
            table: ArcSwap::from_pointee(Table {
                built_in,
                rows: rows.chain(optional.iter().cloned()).collect(),
                optional,
                generation: 1,
            }),
        }
    }

    /// Serves the optional rows, but those whose group and version somebody else serves.
    pub fn offer(&self, taken: impl Fn(&str, &str) -> bool) {
        let is_taken = |row: &Resource| {
            let mut versions = row.versions.iter();
            versions.any(|version| taken(&row.group, version))
        };
        let table = self.table.load();
        let is_right = |row: &Arc<Resource>| {
            let served = table.rows.iter().any(|other| Arc::ptr_eq(row, other));
            served != is_taken(row)
        };
        if table.optional.iter().all(is_right) {
            return;
        }
        self.table.rcu(|table| {
            let mut next = Table::clone(table);
            next.generation += 1;
            for row in &table.optional {
                next.rows.retain(|other| !Arc::ptr_eq(row, other));
            }
            let offered = table.optional.iter().filter(|row| !is_taken(row));
            next.rows.extend(offered.cloned());
            next
        });
    }

    /// The table as it is now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Adds a row, or replaces the one with the same group and plural name that was added before.
    ///
    /// # Errors
    /// [`BuiltInGroup`] when the server has kinds of that group, or objects where the row has its own.
    pub fn put(&self, row: Resource) -> Result<(), BuiltInGroup> {
        let taken = |own: &Arc<Resource>| own.group == row.group || own.storage == row.storage;
        let table = self.table.load();
        if table.built_in().iter().chain(&table.optional).any(taken) {
            return Err(BuiltInGroup {
                group: row.group,
                plural: row.plural,
            });
        }
        let row = Arc::new(row);
        self.table.rcu(|table| {
            let mut next = Table::clone(table);
            next.generation += 1;
            match next
                .rows
                .iter_mut()
                .find(|r| r.group == row.group && r.plural == row.plural)
            {
                Some(old) => *old = Arc::clone(&row),
                None => next.rows.push(Arc::clone(&row)),
            }
            next
        });
        Ok(())
    }

    /// Removes the row with this group and plural name, unless it is one of the server's own.
    pub fn remove(&self, group: &str, plural: &str) {
        self.table.rcu(|table| {
            let mut next = Table::clone(table);
            next.generation += 1;
            let added = next.rows.split_off(next.built_in.min(next.rows.len()));
            next.rows.extend(added.into_iter().filter(|r| {
                table.is_optional_group(&r.group) || !(r.group == group && r.plural == plural)
            }));
            next
        });
    }
}

#[cfg(test)]
mod tests {
    use berth_rules::kinds::api_group;

    use super::*;
    use crate::kinds;

    fn renamed(group: &str, plural: &str, storage: &str) -> Resource {
        let mut row = kinds::rows().remove(0);
        group.clone_into(&mut row.group);
        plural.clone_into(&mut row.plural);
        storage.clone_into(&mut row.storage);
        row
    }

    #[test]
    fn every_built_in_group_is_reserved() {
        for row in kinds::rows() {
            assert!(api_group::is_own(&row.group), "{row:?}");
        }
    }

    #[test]
    fn nothing_replaces_or_removes_a_row_of_the_servers_own() {
        let registry = Registry::new(kinds::rows());
        let before = registry.table().rows().len();
        for (group, plural, storage) in [
            ("", "pods", "custom/x/pods"),
            ("node.k8s.io", "others", "custom/node.k8s.io/others"),
            ("core", "pods", "core/pods"),
        ] {
            let row = renamed(group, plural, storage);
            assert!(registry.put(row).is_err(), "{group}/{plural}");
            registry.remove(group, plural);
        }
        registry.remove("", "pods");
        assert_eq!(registry.table().rows().len(), before);
        let added = || renamed("example.com", "widgets", "custom/example.com/widgets");
        registry.put(added()).unwrap();
        registry.put(added()).unwrap();
        assert_eq!(registry.table().rows().len(), before + 1);
        registry.remove("example.com", "widgets");
        assert_eq!(registry.table().rows().len(), before);
        assert!(registry.table().find_any("", "pods").is_some());
    }
}
