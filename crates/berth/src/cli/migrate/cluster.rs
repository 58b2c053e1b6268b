//! Migrating the classes of a live cluster: saved first, tried dry, then written again as v1.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use berth_check::migrate;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::Value;

use crate::kubeconfig;

const GROUP: &str = "node.k8s.io";
const NOT_FOUND: u16 = 404;

pub(super) async fn run(path: &Path, backup: &Path, carry_out: bool) -> anyhow::Result<ExitCode> {
    let client = kubeconfig::load(path).await?.client;
    let versions = served(&client).await?;
    let crd = old_crd(&client).await?;
    let oldest = ["v1alpha1", "v1beta1", "v1"]
        .into_iter()
        .find(|v| versions.iter().any(|s| s == v));
    let Some(oldest) = oldest else {
        bail!("the cluster serves no version of {GROUP}: there is nothing to migrate");
    };
    let objects = list(&client, oldest).await?;
    if objects.is_empty() {
        eprintln!("berth: the cluster has no RuntimeClass");
        say_crd(crd);
        return Ok(ExitCode::SUCCESS);
    }
    let mut converted = Vec::new();
    let mut refused = false;
    for object in &objects {
        match migrate::object_to_v1("cluster", object.clone()) {
            Ok(v1) => converted.push(v1),
            Err(refusal) => {
                refused = true;
                eprintln!("berth: {refusal}");
            }
        }
    }
    ensure!(!refused, "nothing was changed, because of what was refused");
    save(backup, &objects)?;
    if !versions.iter().any(|v| v == "v1") {
        let mut ready = converted.clone();
        ready.iter_mut().for_each(migrate::strip_server_fields);
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": ready});
        let file = backup.with_extension("v1.json");
        std::fs::write(&file, serde_json::to_string_pretty(&list)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        say_crd(crd);
        eprintln!(
            "berth: the cluster does not serve {GROUP}/v1 yet: upgrade it, then `kubectl create -f {}`",
            file.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    let api = api(&client, "v1");
    write(&api, &converted, true)
        .await
        .context("the server refused the dry run; nothing was changed")?;
    if carry_out {
        write(&api, &converted, false).await?;
        eprintln!(
            "berth: {} RuntimeClass(es) written as {GROUP}/v1",
            converted.len()
        );
    } else {
        eprintln!(
            "berth: dry run: the server accepts {} RuntimeClass(es) as {GROUP}/v1; run again with --yes to write them",
            converted.len()
        );
    }
    say_crd(crd);
    Ok(ExitCode::SUCCESS)
}

fn say_crd(present: bool) {
    if present {
        eprintln!(
            "berth: the cluster still has the CustomResourceDefinition {crd} of the alpha days: delete it once the \
             migrated classes are in use (kubectl delete crd {crd})",
            crd = migrate::OLD_CRD
        );
    }
}

fn api(client: &kube::Client, version: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(GROUP, version, "RuntimeClass");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "runtimeclasses");
    Api::all_with(client.clone(), &resource)
}

async fn served(client: &kube::Client) -> anyhow::Result<Vec<String>> {
    let groups = client
        .list_api_groups()
        .await
        .context("cannot ask the cluster what it serves")?;
    Ok(groups
        .groups
        .into_iter()
        .filter(|g| g.name == GROUP)
        .flat_map(|g| g.versions)
        .map(|v| v.version)
        .collect())
}

async fn old_crd(client: &kube::Client) -> anyhow::Result<bool> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match api.get_opt(migrate::OLD_CRD).await {
        Ok(found) => Ok(found.is_some()),
        // A server without CustomResourceDefinitions.
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(false),
        Err(error) => Err(error).context("cannot look for the old CustomResourceDefinition"),
    }
}

async fn list(client: &kube::Client, version: &str) -> anyhow::Result<Vec<Value>> {
    let list = api(client, version)
        .list(&ListParams::default())
        .await
        .context("cannot list the cluster's RuntimeClasses")?;
    list.items
        .into_iter()
        .map(|object| {
            let mut value = serde_json::to_value(object)?;
            value["apiVersion"] = format!("{GROUP}/{version}").into();
            value["kind"] = "RuntimeClass".into();
            Ok(value)
        })
        .collect()
}

/// The originals, as a list that `kubectl create -f` takes back.
fn save(path: &Path, objects: &[Value]) -> anyhow::Result<()> {
    let mut objects = objects.to_vec();
    objects.iter_mut().for_each(migrate::strip_server_fields);
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| {
            format!(
                "cannot save the originals as {} (choose another with --backup)",
                path.display()
            )
        })?;
    std::io::Write::write_all(&mut file, serde_json::to_string_pretty(&list)?.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot save the originals as {}", path.display()))?;
    eprintln!("berth: the originals are saved as {}", path.display());
    Ok(())
}

/// Writes every class: one that v1 shows already is replaced by itself (so that it is stored as v1), one that
/// it does not show is created.
async fn write(api: &Api<DynamicObject>, classes: &[Value], dry_run: bool) -> anyhow::Result<()> {
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    for class in classes {
        let name = class["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let written = match api.get_opt(&name).await {
            Ok(Some(now)) => api.replace(&name, &params, &now).await,
            Ok(None) => {
                let mut fresh = class.clone();
                migrate::strip_server_fields(&mut fresh);
                let object: DynamicObject = serde_json::from_value(fresh)?;
                api.create(&params, &object).await
            }
            Err(error) => Err(error),
        };
        written.with_context(|| format!("cannot write RuntimeClass {name:?}"))?;
    }
    Ok(())
}
