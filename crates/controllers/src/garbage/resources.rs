//! What can be collected: the resources that the discovery lists, and which of them a kind in an owner reference means.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiResource, Scope, verbs};

use crate::server::{discovery, path_segment};

/// A resource whose objects can be listed, watched and deleted.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) api: ApiResource,
    pub(super) namespaced: bool,
}

impl Resource {
    /// A handle on one object's metadata, or on a namespace's.
    pub(super) fn objects(
        &self,
        client: &Client,
        namespace: Option<&str>,
    ) -> Api<PartialObjectMeta<DynamicObject>> {
        match namespace {
            Some(namespace) if self.namespaced => {
                Api::namespaced_with(client.clone(), namespace, &self.api)
            }
            _ => Api::all_with(client.clone(), &self.api),
        }
    }

    /// The metadata of an object of this name as it is now; nothing where there is no such object.
    ///
    /// # Errors
    /// When the server can't say, also because it does not serve the resource (any more).
    pub(super) async fn read(
        &self,
        client: &Client,
        namespace: Option<&str>,
        name: &str,
    ) -> kube::Result<Option<ObjectMeta>> {
        let Some(name) = path_segment(name) else {
            return Ok(None);
        };
        match self.objects(client, namespace).get_metadata(&name).await {
            Ok(found) => Ok(Some(found.metadata)),
            // Where the whole resource is missing, no object is named in the answer.
            Err(kube::Error::Api(status))
                if status.code == 404
                    && status
                        .details
                        .as_ref()
                        .is_some_and(|of| !of.name.is_empty()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether both are of the same group and plural; the version does not matter.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    pub(super) fn key(&self) -> (String, String) {
        (self.api.group.clone(), self.api.plural.clone())
    }

    /// Whether an owner reference's `apiVersion` and `kind` mean it, in whatever version.
    pub(super) fn has_kind(&self, api_version: &str, kind: &str) -> bool {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.api.group == group && self.api.kind == kind
    }
}

/// The resources of a moment.
#[derive(Debug, Default)]
pub(super) struct Resources {
    /// What is watched, in the version that the server prefers.
    pub(super) collected: Vec<Arc<Resource>>,
    /// By `apiVersion` and kind, in every served version.
    kinds: HashMap<(String, String), Arc<Resource>>,
}

impl Resources {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn discover(client: &Client) -> kube::Result<Self> {
        let discovery = discovery(client).await?;
        let mut found = Self::default();
        for group in discovery.groups() {
            let preferred = group.preferred_version_or_latest();
            let others = group.versions().filter(|version| *version != preferred);
            let mut seen = HashSet::new();
            for version in std::iter::once(preferred).chain(others) {
                for (api, can) in group.versioned_resources(version) {
                    let collectable = [verbs::LIST, verbs::WATCH, verbs::DELETE, verbs::PATCH]
                        .iter()
                        .all(|verb| can.supports_operation(verb));
                    // Events own nothing and are owned by nothing, and there are many, as in the stock collector.
                    let watched = collectable && api.kind != "Event";
                    let first = watched && seen.insert(api.plural.clone());
                    let kind = (api.api_version.clone(), api.kind.clone());
                    let namespaced = can.scope == Scope::Namespaced;
                    let resource = Arc::new(Resource { api, namespaced });
                    if first {
                        found.collected.push(Arc::clone(&resource));
                    }
                    found.kinds.entry(kind).or_insert(resource);
                }
            }
        }
        Ok(found)
    }

    /// These and no others.
    #[cfg(test)]
    pub(super) fn of(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let collected: Vec<_> = resources.into_iter().collect();
        let kind = |one: &Arc<Resource>| (one.api.api_version.clone(), one.api.kind.clone());
        let kinds = collected.iter().map(|one| (kind(one), Arc::clone(one)));
        Self {
            kinds: kinds.collect(),
            collected,
        }
    }

    /// Whether both have the same kinds.
    pub(super) fn has_kinds_of(&self, other: &Self) -> bool {
        self.kinds.len() == other.kinds.len()
            && self.kinds.keys().all(|kind| other.kinds.contains_key(kind))
    }

    /// The resource that an owner reference means.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let key = (api_version.to_owned(), kind.to_owned());
        self.kinds.get(&key).cloned()
    }
}
