//! Writing down a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::printer::{self, Printer};
use crate::registry::{
    Convert, Gvk, Resource, ResourceHandler, Scope, Subresource, SubresourceHandler,
};
use crate::strategy::Strategy;

/// Verbs of what is stored.
const STORED: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A row with one version and the usual verbs.
pub(super) fn row(
    group: &str,
    versions: &[&str],
    kind: &str,
    plural: &str,
    scope: Scope,
    strategy: impl Strategy + 'static,
) -> Resource {
    let preferred = versions.first().copied().unwrap_or("v1");
    let shown_group = if group.is_empty() { "core" } else { group };
    Resource {
        group: group.to_owned(),
        versions: versions.iter().map(|v| (*v).to_owned()).collect(),
        storage_version: preferred.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        verbs: STORED.to_vec(),
        subresources: Vec::new(),
        handler: ResourceHandler::Stored,
        storage: format!("{shown_group}/{plural}"),
        storage_gvk: Gvk::new(group, preferred, kind),
        strategy: Arc::new(strategy),
        printer: printer::plain(),
        convert: None,
        schemas: BTreeMap::new(),
    }
}

impl Resource {
    pub(super) fn short(mut self, names: &[&str]) -> Self {
        self.short_names = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    pub(super) fn category(mut self, name: &str) -> Self {
        self.categories.push(name.to_owned());
        self
    }

    pub(super) fn printed(mut self, printer: Printer) -> Self {
        self.printer = printer;
        self
    }

    pub(super) fn converted(mut self, convert: Convert) -> Self {
        self.convert = Some(convert);
        self
    }

    pub(super) fn stored_as(mut self, storage: &str, gvk: Gvk) -> Self {
        storage.clone_into(&mut self.storage);
        self.storage_gvk = gvk;
        self
    }

    pub(super) fn answered(mut self, handler: ResourceHandler) -> Self {
        self.handler = handler;
        self.verbs = vec!["create"];
        self
    }

    pub(super) fn sub(
        mut self,
        name: &'static str,
        gvk: Gvk,
        verbs: &'static [&'static str],
        handler: SubresourceHandler,
    ) -> Self {
        self.subresources.push(Subresource {
            name,
            gvk,
            verbs,
            handler,
        });
        self
    }

    /// The subresource `status`.
    pub(super) fn with_status(self) -> Self {
        let gvk = Gvk::new(&self.group, &self.storage_version, &self.kind);
        self.sub(
            "status",
            gvk,
            &["get", "patch", "update"],
            SubresourceHandler::Status,
        )
    }
}
