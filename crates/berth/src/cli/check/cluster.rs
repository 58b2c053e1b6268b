//! The facts of a whole cluster.

use anyhow::Context as _;
use berth_check::Facts;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};

/// Group, version, kind and plural of what is looked at. What a server does not serve is passed over.
const KINDS: [(&str, &str, &str, &str); 10] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ResourceQuota", "resourcequotas"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];
const NOT_FOUND: u16 = 404;

pub(super) async fn gather(client: &kube::Client, facts: &mut Facts) -> anyhow::Result<()> {
    for (group, version, kind, plural) in KINDS {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot list {plural} of the cluster"));
            }
        };
        for object in list.items {
            let mut value = serde_json::to_value(object)?;
            value["apiVersion"] = resource.api_version.clone().into();
            value["kind"] = kind.into();
            facts.add_object("cluster", value, true);
        }
    }
    Ok(())
}
