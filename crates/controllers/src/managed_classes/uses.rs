//! What names a class: while anything does, it stays.

use std::fmt::Debug;
use std::sync::Arc;

use berth_core::annotations::{ALLOWED_CLASSES, DEFAULT_CLASS};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Namespace, Pod, PodTemplate, PodTemplateSpec, ReplicationController,
};
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// Objects are read in pages of this size.
const PAGE: u32 = 500;

/// Whether a pod names the class, ended or not, or the policy of a namespace.
pub(super) fn by_objects(class: &str, pods: &[Arc<Pod>], namespaces: &[Arc<Namespace>]) -> bool {
    let of_pod = |pod: &Arc<Pod>| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.runtime_class_name.as_deref()) == Some(class)
    };
    let of_namespace = |namespace: &Arc<Namespace>| {
        let lists = [DEFAULT_CLASS, ALLOWED_CLASSES].into_iter();
        lists
            .filter_map(|key| namespace.annotations().get(key))
            .flat_map(|list| list.split(','))
            .any(|name| name.trim() == class)
    };
    pods.iter().any(of_pod) || namespaces.iter().any(of_namespace)
}

/// Whether a workload's template names it.
///
/// # Errors
/// When workloads can't be read: then nobody knows.
pub(super) async fn by_templates(client: &Client, class: &str) -> kube::Result<bool> {
    let named = |template: &PodTemplateSpec| {
        let spec = template.spec.as_ref();
        spec.and_then(|spec| spec.runtime_class_name.as_deref()) == Some(class)
    };
    Ok(any::<Deployment>(client, |o| {
        o.spec.as_ref().is_some_and(|s| named(&s.template))
    })
    .await?
        || any::<StatefulSet>(client, |o| {
            o.spec.as_ref().is_some_and(|s| named(&s.template))
        })
        .await?
        || any::<DaemonSet>(client, |o| {
            o.spec.as_ref().is_some_and(|s| named(&s.template))
        })
        .await?
        || any::<ReplicaSet>(client, |o| {
            let template = o.spec.as_ref().and_then(|s| s.template.as_ref());
            template.is_some_and(named)
        })
        .await?
        || any::<ReplicationController>(client, |o| {
            let template = o.spec.as_ref().and_then(|s| s.template.as_ref());
            template.is_some_and(named)
        })
        .await?
        || any::<Job>(client, |o| {
            o.spec.as_ref().is_some_and(|s| named(&s.template))
        })
        .await?
        || any::<CronJob>(client, |o| {
            let job = o.spec.job_template.spec.as_ref();
            job.is_some_and(|job| named(&job.template))
        })
        .await?
        || any::<PodTemplate>(client, |o| o.template.as_ref().is_some_and(named)).await?)
}

/// Whether any object of a kind is so, page by page.
async fn any<K>(client: &Client, is_it: impl Fn(&K) -> bool) -> kube::Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        if page.items.iter().any(&is_it) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}
