//! Static pods: pods of files on this machine, that run whatever the API says, and the mirrors that show them there.
//!
//! ```text
//!   directory --manifest.rs--> pods by file --> a worker for each, as for any pod
//!   API's pods with the annotation config.mirror --> Mirrors --mirror.rs--> made, replaced, deleted
//! ```
//!
//! A static pod's uid is the hash of its file (`kubernetes.io/config.hash`); another content is another pod, which begins
//! when the one before has ended. A mirror is nobody's word but the node's: what somebody else writes there, or makes
//! under the annotation, is deleted and never run.

mod manifest;
mod mirror;
mod seen;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_manifests::Found;
use berth_supervise::unblock;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::pods;
use crate::runtime::Facts;

pub(crate) use mirror::keep as keep_mirrors;
pub(crate) use seen::{Mirrors, is_mirror};

use manifest::{ManifestError, look};
use seen::full_name;

/// How often the directory is looked at: names, sizes and times; only what changed is read.
const EVERY: Duration = Duration::from_secs(1);
/// The priority of `system-node-critical`: the node gives up what the API gave it before what its machine says.
const CRITICAL: i32 = 2_000_001_000;

/// What is known of one file.
struct File {
    found: Found,
    /// The last content that was a pod.
    pod: Option<Pod>,
}

/// Reads the directory again and again until `shutdown`. `read` is set when it was read once.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    dir: PathBuf,
    read: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut runtime = agent.runtime.clone();
    tokio::select! {
        () = shutdown.cancelled() => return,
        ready = runtime.wait_for(Facts::is_ready) => if ready.is_err() { return },
    }
    let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
    let mut told: Option<String> = None;
    loop {
        let (place, node) = (dir.clone(), agent.config.node_name.clone());
        let old: BTreeMap<PathBuf, Found> = files
            .iter()
            .map(|(path, file)| (path.clone(), file.found.clone()))
            .collect();
        match unblock(move || look(&place, &old, &node)).await {
            Ok(new) => {
                told = None;
                files.retain(|path, _| new.contains_key(path));
                for (path, (found, pod)) in new {
                    take(&mut files, path, found, pod);
                }
                run(&agent, &files, &shutdown);
                read.send_replace(true);
            }
            // What ran goes on: a directory that cannot be read says nothing of its pods.
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    warn!(dir = %dir.display(), error = %text, "static pods cannot be read");
                    told = Some(text);
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Notes what was read of a file. One that no longer holds a pod leaves what it had: a file is not written in one go.
fn take(
    files: &mut BTreeMap<PathBuf, File>,
    path: PathBuf,
    found: Found,
    pod: Option<Result<Pod, ManifestError>>,
) {
    let pod = match pod {
        None => return,
        Some(Ok(pod)) => Some(pod),
        Some(Err(error)) => {
            let old = files.remove(&path).and_then(|file| file.pod);
            let goes_on = old.is_some();
            warn!(path = %path.display(), %error, goes_on, "the manifest of a static pod is not taken");
            old
        }
    };
    files.insert(path, File { found, pod });
}

/// Ends pods whose files are gone or say something else, and begins those that are not here yet.
fn run(agent: &Arc<Agent>, files: &BTreeMap<PathBuf, File>, shutdown: &CancellationToken) {
    // Of two files with one pod the first one counts.
    let mut wanted: BTreeMap<(String, String), (&Path, &Pod)> = BTreeMap::new();
    for (path, pod) in files
        .iter()
        .filter_map(|(path, f)| Some((path, f.pod.as_ref()?)))
    {
        wanted.entry(full_name(pod)).or_insert((path, pod));
    }
    let uids: HashSet<&str> = wanted
        .values()
        .filter_map(|(_, pod)| pod.metadata.uid.as_deref())
        .collect();
    let mut busy = HashSet::new();
    for handle in agent.handles().iter().filter(|h| h.is_static()) {
        let name = full_name(&handle.pod.borrow());
        if !uids.contains(handle.uid.as_str()) && !handle.is_gone() {
            info!(pod = %format!("{}/{}", name.0, name.1), "the file of a static pod is gone or another one");
            pods::gone(handle);
            agent.mirrors.poke();
        }
        busy.insert(name);
    }
    for (name, (path, pod)) in wanted {
        let Some(uid) = pod.metadata.uid.clone().filter(|_| !busy.contains(&name)) else {
            continue;
        };
        info!(pod = %format!("{}/{}", name.0, name.1), path = %path.display(), "static pod");
        let mut pod = pod.clone();
        if let Some(spec) = &mut pod.spec {
            spec.priority = spec.priority.or(Some(CRITICAL));
        }
        pods::begin(agent, uid, Arc::new(pod), true, shutdown);
        agent.mirrors.poke();
    }
}
