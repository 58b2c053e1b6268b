//! ResourceQuota status: what each namespace uses of what its quotas limit.
//!
//! The server decides with counts of its own; what is written here is for people (`kubectl describe quota`).

use berth_supervise::{Brief, Outage, Tasks};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use berth_core::gates::FeatureGates;
use berth_core::object_usage;
use berth_core::resources::Amounts;
use berth_core::usage::{Counts, object_names, used, wire};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Notify;
use tracing::warn;

use crate::server::is_code;
use crate::{Reflected, reflect, reflect_pods};

/// Everything is counted this often, whatever was seen to change.
const PERIOD: Duration = Duration::from_secs(60);
/// Objects change in bursts; one count a burst does.
const PAUSE: Duration = Duration::from_millis(200);

/// Kinds that a quota can count by name: group, plural, version.
const COUNTED: [(&str, &str, &str); 25] = [
    ("", "configmaps", "v1"),
    ("", "secrets", "v1"),
    ("", "services", "v1"),
    ("", "serviceaccounts", "v1"),
    ("", "resourcequotas", "v1"),
    ("", "replicationcontrollers", "v1"),
    ("", "persistentvolumeclaims", "v1"),
    ("coordination.k8s.io", "leases", "v1"),
    ("", "endpoints", "v1"),
    ("", "limitranges", "v1"),
    ("", "podtemplates", "v1"),
    ("apps", "deployments", "v1"),
    ("apps", "replicasets", "v1"),
    ("apps", "statefulsets", "v1"),
    ("apps", "daemonsets", "v1"),
    ("apps", "controllerrevisions", "v1"),
    ("autoscaling", "horizontalpodautoscalers", "v2"),
    ("batch", "jobs", "v1"),
    ("batch", "cronjobs", "v1"),
    ("discovery.k8s.io", "endpointslices", "v1"),
    ("networking.k8s.io", "ingresses", "v1"),
    ("networking.k8s.io", "networkpolicies", "v1"),
    ("policy", "poddisruptionbudgets", "v1"),
    ("resource.k8s.io", "resourceclaims", "v1"),
    ("resource.k8s.io", "resourceclaimtemplates", "v1"),
];

/// Runs until the tasks are to stop; its watches are among them. Pods that nobody else watches are watched from the first quota
/// on.
pub async fn run(
    client: Client,
    gates: FeatureGates,
    mut pods: Option<Reflected<Pod>>,
    tasks: Tasks,
) {
    let shutdown = tasks.stop_token();
    let mut quotas: Reflected<ResourceQuota> = reflect(&tasks, Api::all(client.clone()), None);
    let mut followed = BTreeSet::new();
    let changed = Arc::new(Notify::new());
    loop {
        follow(&client, &quotas, &mut followed, &changed, &tasks);
        if pods.is_none() && !quotas.all().is_empty() {
            pods = Some(reflect_pods(&tasks, client.clone()));
        }
        let complete = pods.as_ref().filter(|pods| pods.is_complete());
        if quotas.is_complete()
            && let Some(pods) = complete
        {
            let all = pods.all();
            for quota in quotas.all() {
                if let Err(error) = write(&client, &quota, &all, &gates).await {
                    let name = quota.name_any();
                    warn!(quota = name, error = %Brief(&error), "cannot write the quota's status");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = quotas.changed_or(PERIOD) => {}
            () = changed_or_never(&mut pods) => {}
            () = changed.notified() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn changed_or_never(pods: &mut Option<Reflected<Pod>>) {
    match pods {
        Some(pods) => pods.changed_or(PERIOD).await,
        None => std::future::pending().await,
    }
}

/// Watches the kinds whose objects some quota counts, from the first such quota on.
fn follow(
    client: &Client,
    quotas: &Reflected<ResourceQuota>,
    followed: &mut BTreeSet<&'static str>,
    changed: &Arc<Notify>,
    tasks: &Tasks,
) {
    let all = quotas.all();
    let hard = all.iter().filter_map(|quota| quota.spec.as_ref());
    let wanted: BTreeSet<&str> = hard
        .filter_map(|spec| spec.hard.as_ref())
        .flat_map(|hard| hard.keys().map(String::as_str))
        .collect();
    for (group, plural, version) in COUNTED {
        let measured = match plural {
            "persistentvolumeclaims" => wanted.iter().any(|name| object_usage::is_of_claims(name)),
            "services" => wanted.iter().any(|name| object_usage::is_of_services(name)),
            _ => false,
        };
        let names = object_names(group, plural);
        let counted = names.iter().any(|name| wanted.contains(name.as_str()));
        if !(counted || measured) || !followed.insert(plural) {
            continue;
        }
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(client.clone(), &resource(group, plural, version));
        let (changed, stop) = (Arc::clone(changed), tasks.stop_token());
        let quotas = quotas.clone();
        tasks.spawn_essential("watch of what a quota counts", async move {
            let mut outage = Outage::new(format!("cannot watch {plural}"));
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events.take_until(stop.cancelled_owned()));
            while let Some(event) = events.next().await {
                outage.watched(&event);
                let namespace = match event {
                    // the first list, too, may have what the last count had not
                    Ok(
                        watcher::Event::InitApply(object)
                        | watcher::Event::Apply(object)
                        | watcher::Event::Delete(object),
                    ) => object.namespace(),
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
                };
                if quotas
                    .all()
                    .iter()
                    .any(|quota| quota.namespace() == namespace)
                {
                    changed.notify_one();
                }
            }
        });
    }
}

fn resource(group: &str, plural: &str, version: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: String::new(),
        plural: plural.to_owned(),
    }
}

async fn write(
    client: &Client,
    quota: &ResourceQuota,
    pods: &[Arc<Pod>],
    gates: &FeatureGates,
) -> kube::Result<()> {
    let namespace = quota.namespace().unwrap_or_default();
    let hard = quota
        .spec
        .as_ref()
        .and_then(|spec| spec.hard.clone())
        .unwrap_or_default();
    let wanted: BTreeSet<&str> = hard.keys().map(String::as_str).collect();
    let counts = count(client, &namespace, &wanted).await?;
    let here = pods
        .iter()
        .map(Arc::as_ref)
        .filter(|pod| pod.namespace().as_deref() == Some(namespace.as_str()));
    let mut used = used(quota, here, &counts, gates);
    measure(client, &namespace, &wanted, &mut used).await?;
    let used = wire(&used);
    let status = quota.status.as_ref();
    let told = status.is_some_and(|status| {
        status.used.as_ref() == Some(&used) && status.hard.as_ref() == Some(&hard)
    });
    if told {
        return Ok(());
    }
    let api: Api<ResourceQuota> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"status": {"hard": hard, "used": used}});
    match api
        .patch_status(
            &quota.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, &[404]) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds what claims and services use of what the quota limits.
async fn measure(
    client: &Client,
    namespace: &str,
    wanted: &BTreeSet<&str>,
    used: &mut Amounts,
) -> kube::Result<()> {
    let mut usage = Amounts::new();
    if wanted.iter().any(|name| object_usage::is_of_claims(name)) {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        for claim in api.list(&ListParams::default()).await? {
            object_usage::add(&mut usage, &object_usage::of_claim(&claim));
        }
    }
    if wanted.iter().any(|name| object_usage::is_of_services(name)) {
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        for service in api.list(&ListParams::default()).await? {
            object_usage::add(&mut usage, &object_usage::of_service(&service));
        }
    }
    usage.retain(|name, _| wanted.contains(name.as_str()));
    used.extend(usage);
    Ok(())
}

/// How many objects of the kinds that the quota names are in the namespace.
async fn count(client: &Client, namespace: &str, wanted: &BTreeSet<&str>) -> kube::Result<Counts> {
    let mut counts = Counts::new();
    for (group, plural, version) in COUNTED {
        let names = object_names(group, plural);
        if !names.iter().any(|name| wanted.contains(name.as_str())) {
            continue;
        }
        let kind = resource(group, plural, version);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        let found = match api.list_metadata(&ListParams::default()).await {
            Ok(list) => list.items.len(),
            Err(error) if is_code(&error, &[404]) => 0,
            Err(error) => return Err(error),
        };
        let number = i64::try_from(found).unwrap_or(i64::MAX);
        counts.extend(names.into_iter().map(|name| (name, number)));
    }
    Ok(counts)
}
