//! The ControllerRevisions of a StatefulSet or DaemonSet, as the server has them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use berth_workloads::revision::{Newest, excess, is_equal, newest};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::claim::claim_all;
use crate::Reflected;
use crate::server::{is_code, only};

/// Where the revisions are read and written.
pub(super) struct Revisions {
    pub(super) client: Client,
    pub(super) all: Reflected<ControllerRevision>,
}

/// What the revision of the present template came to.
pub(super) enum Present {
    /// This is it; the history has it.
    Is(Arc<ControllerRevision>, Vec<Arc<ControllerRevision>>),
    /// Its name is taken by another one: `status.collisionCount` is to be raised.
    IsTaken,
}

impl Revisions {
    /// Makes the revision of the template, if there is none.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) async fn present<K>(
        &self,
        owner: &K,
        selector: &LabelSelector,
        template: &PodTemplateSpec,
        collisions: Option<i32>,
    ) -> kube::Result<Present>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + k8s_openapi::Resource
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let namespace = owner.namespace();
        let here = self
            .all
            .in_namespace(namespace.as_deref().unwrap_or_default());
        let mut history = claim_all(&self.client, owner, selector, here).await?;
        let api: Api<ControllerRevision> = Api::namespaced(
            self.client.clone(),
            namespace.as_deref().unwrap_or_default(),
        );
        let present = match newest::<K>(owner.meta(), template, collisions, &history) {
            Newest::Present(revision) => revision,
            Newest::Raise(old, number) => {
                let raised = ControllerRevision {
                    revision: number,
                    ..ControllerRevision::clone(&old)
                };
                let name = old.name_any();
                let raised = api.replace(&name, &PostParams::default(), &raised).await?;
                history.retain(|revision| revision.uid() != raised.uid());
                Arc::new(raised)
            }
            Newest::Create(wanted) => {
                match api.create(&PostParams::default(), &wanted).await {
                    Ok(created) => Arc::new(created),
                    Err(error) if is_code(&error, &[409]) => {
                        // It was made before, and the watch does not show it yet; or it is another one.
                        match api.get_opt(&wanted.name_any()).await? {
                            Some(there) if is_equal(&wanted, &there) => Arc::new(there),
                            _ => return Ok(Present::IsTaken),
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if !history
            .iter()
            .any(|revision| revision.uid() == present.uid())
        {
            history.push(Arc::clone(&present));
        }
        Ok(Present::Is(present, history))
    }

    /// Deletes revisions beyond the limit that no pod is of.
    ///
    /// # Errors
    /// When one can't be deleted.
    pub(super) async fn clean_up(
        &self,
        history: &[Arc<ControllerRevision>],
        live: &BTreeSet<String>,
        limit: Option<i32>,
    ) -> kube::Result<()> {
        for old in excess(history, live, limit) {
            let namespace = old.namespace().unwrap_or_default();
            let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &namespace);
            match api.delete(&old.name_any(), &only(&old.metadata)).await {
                Ok(_) => {}
                Err(error) if is_code(&error, &[404, 409]) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
