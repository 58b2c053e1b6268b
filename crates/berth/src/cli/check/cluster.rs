//! The facts of a whole cluster.

use anyhow::Context as _;
use berth_check::Facts;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList};

/// Group, version, kind and plural of what is looked at. What a server does not serve is passed over.
const KINDS: [(&str, &str, &str, &str); 11] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ResourceQuota", "resourcequotas"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];
const NOT_FOUND: u16 = 404;
const FORBIDDEN: u16 = 403;

/// Adds what a cluster has. What the user may not list in the whole cluster is listed in the kubeconfig's namespace; what not
/// even there is left out, and said.
///
/// # Errors
/// When the cluster does not answer.
pub(super) async fn gather(client: &kube::Client, facts: &mut Facts) -> anyhow::Result<()> {
    let own = client.default_namespace().to_owned();
    for (group, version, kind, plural) in KINDS {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let mut listed = all.list(&ListParams::default()).await;
        let mut limited = "forbidden".to_owned();
        if is(&listed, FORBIDDEN) && !["nodes", "runtimeclasses"].contains(&plural) {
            listed = match plural {
                "namespaces" => one(&all, &own).await,
                _ => {
                    let of_own = Api::namespaced_with(client.clone(), &own, &resource);
                    of_own.list(&ListParams::default()).await
                }
            };
            if listed.is_ok() {
                limited = format!("forbidden, but for namespace {own}");
                facts.unseen.insert(plural.to_owned(), limited.clone());
            }
        }
        let (is_missing, is_forbidden) = (is(&listed, NOT_FOUND), is(&listed, FORBIDDEN));
        if is_forbidden {
            facts.unseen.insert(plural.to_owned(), limited);
        }
        if is_missing || is_forbidden {
            continue;
        }
        let list = listed.with_context(|| format!("cannot list {plural} of the cluster"))?;
        for object in list.items {
            let mut value = serde_json::to_value(object)?;
            value["apiVersion"] = resource.api_version.clone().into();
            value["kind"] = kind.into();
            facts.add_object("cluster", value, true);
        }
    }
    Ok(())
}

type Listed = kube::Result<ObjectList<DynamicObject>>;

fn is(listed: &Listed, code: u16) -> bool {
    matches!(listed, Err(kube::Error::Api(status)) if status.code == code)
}

/// A list of one.
async fn one(api: &Api<DynamicObject>, name: &str) -> Listed {
    let object = api.get(name).await?;
    Ok(ObjectList {
        types: Default::default(),
        metadata: Default::default(),
        items: vec![object],
    })
}
