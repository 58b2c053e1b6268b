//! What every namespace must have: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use berth_supervise::{Brief, Tasks};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tracing::warn;

use crate::server::is_code;
use crate::{Reflected, reflect};

const ROOT_CA: &str = "kube-root-ca.crt";
const PERIOD: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);
/// A client that makes a namespace and its default account in one go has the first word for so long.
const GRACE: Duration = Duration::from_millis(150);

/// Runs until the tasks are to stop; its watches are among them.
pub async fn run(
    client: Client,
    root_ca_pem: String,
    mut namespaces: Reflected<Namespace>,
    tasks: Tasks,
) {
    let shutdown = tasks.stop_token();
    let named = |name: &str| format!("metadata.name={name}");
    let mut accounts: Reflected<ServiceAccount> =
        reflect(&tasks, Api::all(client.clone()), Some(&named("default")));
    let mut maps: Reflected<ConfigMap> =
        reflect(&tasks, Api::all(client.clone()), Some(&named(ROOT_CA)));
    let mut first_seen: HashMap<String, Instant> = HashMap::new();
    loop {
        let mut failed = false;
        let mut young = false;
        if namespaces.is_complete() && accounts.is_complete() && maps.is_complete() {
            for namespace in namespaces.all() {
                if namespace.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                let name = namespace.name_any();
                let seen = *first_seen.entry(name.clone()).or_insert_with(Instant::now);
                if seen.elapsed() < GRACE {
                    young = true;
                    continue;
                }
                if let Err(error) =
                    provide(&client, &root_ca_pem, &name, &accounts.all(), &maps.all()).await
                {
                    failed = true;
                    warn!(namespace = name, error = %Brief(&error), "cannot provide the namespace's defaults");
                }
            }
        }
        first_seen.retain(|name, _| namespaces.all().iter().any(|n| n.name_any() == *name));
        let period = match (young, failed) {
            (true, _) => GRACE,
            (false, true) => AGAIN,
            (false, false) => PERIOD,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = namespaces.changed_or(period) => {}
            () = accounts.changed_or(period) => {}
            () = maps.changed_or(period) => {}
        }
    }
}

async fn provide(
    client: &Client,
    root_ca_pem: &str,
    namespace: &str,
    accounts: &[std::sync::Arc<ServiceAccount>],
    maps: &[std::sync::Arc<ConfigMap>],
) -> kube::Result<()> {
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    if !accounts
        .iter()
        .any(|account| account.namespace().as_deref() == Some(namespace))
    {
        let account = ServiceAccount {
            metadata: named("default"),
            ..ServiceAccount::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        unless(
            api.create(&PostParams::default(), &account).await,
            &[404, 409],
        )?;
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), root_ca_pem.to_owned())]);
    let map = ConfigMap {
        metadata: named(ROOT_CA),
        data: Some(data),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match maps
        .iter()
        .find(|found| found.namespace().as_deref() == Some(namespace))
    {
        None => unless(api.create(&PostParams::default(), &map).await, &[404, 409]),
        Some(found) if found.data != map.data => unless(
            api.replace(ROOT_CA, &PostParams::default(), &map).await,
            &[404, 409],
        ),
        Some(_) => Ok(()),
    }
}

/// Success, where the answer is one of these codes: another was faster, or the namespace is gone.
fn unless<T>(answer: kube::Result<T>, codes: &[u16]) -> kube::Result<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, codes) => Ok(()),
        Err(error) => Err(error),
    }
}
