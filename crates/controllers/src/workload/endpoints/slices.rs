//! Writing slices of one controller.

use std::sync::Arc;

use berth_workloads::endpoints::reconcile::Changes;
use berth_workloads::endpoints::{MANAGED_BY, SERVICE_NAME};
use futures::future::join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::Seen;
use crate::Reflected;
use crate::reflect::revision_of;
use crate::server::{is_code, only};
use crate::workload::Key;
use crate::workload::keyed::{Keys, Looked, first_error};
use crate::workload::pods::is_ending;
use crate::workload::seen::Written;

/// The slices that one controller keeps, by the Service that they are for.
pub(super) struct Slices {
    client: Client,
    all: Reflected<EndpointSlice>,
    controller: &'static str,
    written: Written,
}

/// For which Service a slice is, if it is one of this controller's.
fn key_of(slice: &EndpointSlice, controller: &str) -> Option<Key> {
    let labels = slice.labels();
    if labels.get(MANAGED_BY)? != controller {
        return None;
    }
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, labels.get(SERVICE_NAME)?))
}

impl Slices {
    pub(super) fn new(seen: &Seen, controller: &'static str) -> Self {
        Self {
            client: seen.client.clone(),
            all: seen.slices.clone(),
            controller,
            written: Written::default(),
        }
    }

    /// Has the Service of each of these slices looked at that appears, changes or goes.
    pub(super) fn listen(&self, keys: Keys) {
        let controller = self.controller;
        self.all.listen(move |slice| {
            if let Some(key) = key_of(slice, controller) {
                keys.add(&key);
            }
        });
    }

    pub(super) fn forget(&self, key: &Key) {
        self.written.forget(key);
    }

    /// Carries out what `decide` says about the slices that are there; gives when to look again.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn keep(
        &self,
        key: &Key,
        decide: impl FnOnce(&[&EndpointSlice]) -> Changes,
    ) -> Looked {
        // One that was made and isn't seen yet would be made once more.
        if let Some(left) = self.written.is_awaited(key, self.all.revision()) {
            return Ok(Some(left));
        }
        let here = self.all.in_namespace(&key.namespace);
        let own: Vec<&EndpointSlice> = here
            .iter()
            .map(Arc::as_ref)
            .filter(|slice| key_of(slice, self.controller).as_ref() == Some(key))
            .filter(|slice| slice.metadata.deletion_timestamp.is_none())
            .collect();
        let Changes {
            create,
            update,
            delete,
        } = decide(&own);
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let updating = update.iter().map(|slice| {
            let (api, parameters, name) = (&api, &parameters, slice.name_any());
            async move { api.replace(&name, parameters, slice).await }
        });
        let creating = create.iter().map(|slice| api.create(&parameters, slice));
        let mut written = join_all(updating).await;
        written.extend(join_all(creating).await);
        for slice in written.iter().flatten() {
            self.written.note(key, revision_of(&slice.metadata));
        }
        if let Some(error) = first_error(written) {
            // A namespace that is being emptied refuses everything.
            return if is_ending(&error) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let deleting = delete.iter().map(|slice| {
            let (api, name) = (&api, slice.name_any());
            async move { api.delete(&name, &only(&slice.metadata)).await }
        });
        for deleted in join_all(deleting).await {
            match deleted {
                Err(error) if is_code(&error, &[404, 409]) => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(None)
    }
}
