//! Sandboxes that wait for their pod.

mod cold;
mod cost;
mod given;
mod kept;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use berth_cri::{Config, HandlerSource};
use berth_cri_api::v1::*;
use serde_json::Value;

use crate::client::until;
use crate::server::Server;

const WAITING: &str =
    "default_handler = \"runc\"\n[handlers.runc]\nwarm = 1\n[handlers.runsc]\nwarm = 2\n";
const NONE: &str = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.runsc]\n";

fn table(text: &'static str) -> impl FnOnce(&mut Config, &Path) {
    move |config, dir| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.metrics_addr = Some(free.local_addr().unwrap());
        let path = dir.join("config.toml");
        std::fs::write(&path, text).unwrap();
        config.handlers = HandlerSource::Berth(path);
    }
}

/// The sandboxes that waited, by their server's directory.
static SEEN: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());

/// What the verbose Status says of a handler's waiting sandboxes.
async fn report(server: &mut Server, handler: &str) -> Value {
    let request = StatusRequest { verbose: true };
    let status = server.client.status(request).await.unwrap().into_inner();
    let text = status.info.get("waitingSandboxes").cloned();
    let report: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    report[handler].clone()
}

/// The ids of those that wait, once there are so many and none is on its way.
async fn waiting(server: &mut Server, handler: &str, count: usize) -> BTreeSet<String> {
    until(&format!("{count} waiting {handler}"), async || {
        let report = report(server, handler).await;
        let all = report["sandboxes"].as_array().cloned().unwrap_or_default();
        let ids: BTreeSet<String> = all
            .iter()
            .filter(|sandbox| sandbox["state"] == "waiting")
            .map(|sandbox| sandbox["id"].as_str().unwrap().to_owned())
            .collect();
        let seen = ids.iter().map(|id| (server.path().to_owned(), id.clone()));
        SEEN.lock().unwrap().extend(seen);
        if ids.len() == count && all.len() == count {
            Ok(ids)
        } else {
            Err(report.to_string())
        }
    })
    .await
}

/// Has none wait any more, so that the server can be looked at for leftovers.
async fn end(mut server: Server) {
    if !server.is_running() {
        server.resume().await;
    }
    std::fs::write(server.path().join("config.toml"), NONE).unwrap();
    for handler in ["runc", "runsc"] {
        waiting(&mut server, handler, 0).await;
    }
    let dir = server.path().to_owned();
    server.finish().await;
    let seen = SEEN.lock().unwrap();
    let ours = |path: &PathBuf| {
        let id = path.file_name().unwrap().to_string_lossy().into_owned();
        seen.contains(&(dir.clone(), id))
    };
    let left: Vec<PathBuf> = cgroups("berth-waiting").into_iter().filter(ours).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// The cgroups below a parent, in all hierarchies.
fn cgroups(parent: &str) -> BTreeSet<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let tops = hierarchies
        .flatten()
        .map(|entry| entry.path().join(parent))
        .chain([Path::new("/sys/fs/cgroup").join(parent)]);
    tops.filter_map(|top| std::fs::read_dir(top).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

async fn pods(server: &mut Server) -> BTreeSet<String> {
    let request = ListPodSandboxRequest::default();
    let listed = server.client.list_pod_sandbox(request).await.unwrap();
    let items = listed.into_inner().items.into_iter();
    items.map(|pod| pod.id).collect()
}
