//! Add-ons: manifests in a directory of the server, applied and pruned as k3s does it.
//!
//! Each file (`.yaml`, `.yml`, `.json`) is an add-on, named by the file. What it holds is applied on the server's side, as the field
//! manager [`MANAGER`]. An object that a file no longer holds is deleted. When the file itself goes, or `NAME.skip` stands beside
//! it, its objects stay.
//!
//! - `manifest.rs`: from a file to objects.
//! - `record.rs`: which objects an add-on has. That is kept beside the manifests and not in the cluster, where others would choose by
//!   it what is deleted.
//!
//! A file is taken once it has stayed the same for one look, so that one that is being written isn't half applied.

mod manifest;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_manifests::{FileError, Found};
use berth_supervise::{Brief, Outage, unblock};
use berth_workloads::Event;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::discovery::Scope;
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::record::Recorder;
use crate::server::{is_code, only, path_segment};
use manifest::Wanted;
use record::{Record, Reference};

/// Whose the fields of add-ons are.
const MANAGER: &str = "berth-addons";
/// The annotation of an object that names its add-on.
const ADDON: &str = "node.berth.dev/addon";
/// How often the directory is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// The first pause after an add-on could not be applied, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// No file may be larger, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Where add-ons are.
#[derive(Clone)]
pub struct Config {
    /// Client of the cluster's admin.
    pub client: Client,
    /// The directory of the manifests; root's alone to write.
    pub manifests: PathBuf,
    /// The file in which is kept what was applied.
    pub record: PathBuf,
}

/// Applies what the directory holds until `shutdown`.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut addons = Addons {
            recorder: Recorder::new(config.client.clone(), "addons"),
            config,
            files: BTreeMap::new(),
            others: BTreeMap::new(),
            record: None,
            written: None,
        };
        let what = format!(
            "add-ons of {} are not applied",
            addons.config.manifests.display()
        );
        let mut outage = Outage::new(what);
        while !shutdown.is_cancelled() {
            match addons.look().await {
                Ok(()) => outage.works(),
                Err(error) => {
                    outage.failed(error);
                }
            }
            let _ = tokio::time::timeout(EVERY, shutdown.cancelled()).await;
        }
    })
}

struct Addons {
    config: Config,
    recorder: Recorder,
    files: BTreeMap<PathBuf, File>,
    /// Files that are no manifests, as they were last seen.
    others: BTreeMap<PathBuf, Found>,
    /// What was applied, once it is read.
    record: Option<Record>,
    /// The record as it is on disk.
    written: Option<Record>,
}

/// What is known of a file.
struct File {
    found: Found,
    text: Result<String, FileError>,
    state: State,
}

/// How far a file is.
enum State {
    /// It was new or another one at the last look.
    Fresh,
    /// It is to be applied.
    Due {
        at: Instant,
        pause: Duration,
    },
    Applied,
}

impl Addons {
    /// # Errors
    /// Why nothing can be done, for people.
    async fn look(&mut self) -> Result<(), String> {
        if self.record.is_none() {
            let path = self.config.record.clone();
            let record = unblock(move || Record::read(&path)).await?;
            self.record = Some(record.clone());
            self.written = Some(record);
        }
        let dir = self.config.manifests.clone();
        let old = self.files.iter().map(|(path, file)| (path, &file.found));
        let old: BTreeMap<PathBuf, Found> = old
            .chain(&self.others)
            .map(|(path, found)| (path.clone(), found.clone()))
            .collect();
        let found = unblock(move || berth_manifests::look(&dir, &old, MAX_BYTES)).await;
        let mut found = found.map_err(|error| error.to_string())?;
        let skipped = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".skip");
            PathBuf::from(name)
        };
        let skips: Vec<PathBuf> = found.keys().cloned().collect();
        // Not read again either: the directory may hold what it likes.
        let others = found.iter().filter(|(path, _)| !is_manifest(path));
        self.others = others
            .map(|(path, (found, _))| (path.clone(), found.clone()))
            .collect();
        found.retain(|path, _| is_manifest(path) && !skips.contains(&skipped(path)));
        self.files.retain(|path, _| {
            let stays = found.contains_key(path);
            if !stays {
                let path = path.display();
                info!(%path, "the manifest of an add-on is gone or skipped; its objects stay");
            }
            stays
        });
        for (path, (found, text)) in found {
            match (text, self.files.get_mut(&path)) {
                (Some(text), _) => {
                    let state = State::Fresh;
                    self.files.insert(path, File { found, text, state });
                }
                (None, Some(file)) if matches!(file.state, State::Fresh) => {
                    let (at, pause) = (Instant::now(), PAUSE.0);
                    file.state = State::Due { at, pause };
                }
                (None, _) => {}
            }
        }
        let now = Instant::now();
        let due = |file: &File| matches!(file.state, State::Due { at, .. } if at <= now);
        let due: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(_, file)| due(file))
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            self.take(&path).await?;
        }
        Ok(())
    }

    /// Writes the record, where it is another one than on disk.
    async fn write_record(&mut self) -> Result<(), String> {
        if self.written == self.record {
            return Ok(());
        }
        if let Some(record) = self.record.clone() {
            let path = self.config.record.clone();
            unblock(move || record.write(&path)).await?;
        }
        self.written.clone_from(&self.record);
        Ok(())
    }

    /// Applies a file, and says what came of it.
    async fn take(&mut self, path: &Path) -> Result<(), String> {
        let Some(name) = name_of(path) else {
            return Ok(());
        };
        let Some(file) = self.files.get(path) else {
            return Ok(());
        };
        let wanted = match &file.text {
            Ok(text) => manifest::read(text),
            Err(error) => Err(error.to_string()),
        };
        let failures = match wanted {
            Ok(wanted) => self.apply(&name, wanted).await?,
            Err(why) => vec![why],
        };
        let Some(file) = self.files.get_mut(path) else {
            return Ok(());
        };
        if failures.is_empty() {
            info!(addon = name, "an add-on is applied");
            file.state = State::Applied;
            return Ok(());
        }
        if let State::Due { at, pause } = &mut file.state {
            *at = Instant::now() + *pause;
            *pause = (*pause * 2).min(PAUSE.1);
        }
        let why = failures.join("; ");
        warn!(
            addon = name,
            error = why,
            "an add-on is not applied whole; it is tried again"
        );
        let message = format!("manifest {}: {why}", path.display());
        let mut about = Namespace::default();
        about.metadata.name = Some("kube-system".to_owned());
        about.metadata.namespace = Some("kube-system".to_owned());
        let event = Event::warning("ApplyManifestFailed", message);
        self.recorder.record(&about, &event).await;
        Ok(())
    }

    /// Applies objects, deletes those that the add-on had and has no more; what failed.
    async fn apply(&mut self, name: &str, wanted: Vec<Wanted>) -> Result<Vec<String>, String> {
        let references: Vec<Reference> = wanted.iter().map(|one| one.reference.clone()).collect();
        let Some(record) = &mut self.record else {
            return Ok(Vec::new());
        };
        // Before, so that a kill on the way leaves none that nobody knows of.
        record.add(name, &references);
        self.write_record().await?;
        let mut failures = Vec::new();
        let mut kinds = Kinds::new(&self.config.client);
        let mut applied = Vec::new();
        for one in wanted {
            let (reference, shown) = (one.reference.clone(), one.reference.to_string());
            match apply_one(&mut kinds, name, one).await {
                Ok(uid) => {
                    applied.extend(uid.clone());
                    if let Some(record) = &mut self.record {
                        record.note(name, &reference, uid);
                    }
                }
                Err(why) => failures.push(format!("{shown}: {why}")),
            }
        }
        let superfluous = self.record.as_ref().map(|r| r.others(name, &references));
        for (reference, uid) in superfluous.unwrap_or_default() {
            match prune(&mut kinds, name, &reference, uid.as_deref(), &applied).await {
                Ok(()) => {
                    if let Some(record) = &mut self.record {
                        record.remove(name, &reference);
                    }
                }
                Err(why) => failures.push(format!("{reference}: cannot be deleted: {why}")),
            }
        }
        self.write_record().await?;
        Ok(failures)
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The kinds that the server has, asked for once for each file.
struct Kinds<'a> {
    client: &'a Client,
    known: HashMap<(String, String), (ApiResource, Scope)>,
}

impl<'a> Kinds<'a> {
    fn new(client: &'a Client) -> Self {
        let known = HashMap::new();
        Self { client, known }
    }

    /// The API of an object's kind and namespace, and the object's name in its path.
    async fn api(&mut self, of: &Reference) -> Result<(Api<DynamicObject>, String), String> {
        let name = path_segment(&of.name)
            .ok_or_else(|| format!("\"{}\" is no name of an object", of.name))?;
        let namespace = path_segment(&of.namespace)
            .ok_or_else(|| format!("\"{}\" is no name of a namespace", of.namespace))?;
        let key = (of.api_version.clone(), of.kind.clone());
        let (resource, scope) = match self.known.get(&key) {
            Some(known) => known.clone(),
            None => {
                let (group, version) = of.group_version();
                let kind = GroupVersionKind::gvk(group, version, &of.kind);
                let found = kube::discovery::oneshot::pinned_kind(self.client, &kind).await;
                let (resource, capabilities) = found.map_err(|error| {
                    let (kind, version) = (&of.kind, &of.api_version);
                    format!(
                        "no matches for kind \"{kind}\" in version \"{version}\": {}",
                        Brief(&error)
                    )
                })?;
                let found = (resource, capabilities.scope);
                self.known.insert(key, found.clone());
                found
            }
        };
        let client = self.client.clone();
        let api = match scope {
            Scope::Namespaced => Api::namespaced_with(client, &namespace, &resource),
            Scope::Cluster => Api::all_with(client, &resource),
        };
        Ok((api, name))
    }
}

/// Applies an object; its UID.
async fn apply_one(
    kinds: &mut Kinds<'_>,
    addon: &str,
    wanted: Wanted,
) -> Result<Option<String>, String> {
    let (api, name) = kinds.api(&wanted.reference).await?;
    let mut object = wanted.object;
    object
        .annotations_mut()
        .insert(ADDON.to_owned(), addon.to_owned());
    if api.resource_url().contains("/namespaces/") {
        object.metadata.namespace = Some(wanted.reference.namespace);
    } else {
        object.metadata.namespace = None;
    }
    let params = PatchParams::apply(MANAGER).force();
    let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
    let applied = applied.map_err(|error| Brief(&error).to_string())?;
    Ok(applied.uid())
}

/// Deletes an object that an add-on had, if it is still that one and the add-on's, and none of those that were just `applied`
/// under another reference (a namespace that is named now, of a kind that has none).
async fn prune(
    kinds: &mut Kinds<'_>,
    addon: &str,
    reference: &Reference,
    uid: Option<&str>,
    applied: &[String],
) -> Result<(), String> {
    let (api, name) = kinds.api(reference).await?;
    let brief = |error: kube::Error| Brief(&error).to_string();
    let Some(there) = api.get_opt(&name).await.map_err(brief)? else {
        return Ok(());
    };
    if there
        .metadata
        .uid
        .as_ref()
        .is_some_and(|uid| applied.contains(uid))
    {
        return Ok(());
    }
    let is_ours = there.annotations().get(ADDON).is_some_and(|of| of == addon);
    let is_same = uid.is_none() || uid == there.metadata.uid.as_deref();
    if !is_ours || !is_same {
        info!(addon, object = %reference, "an object of an add-on has become another's; it stays");
        return Ok(());
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..only(&there.metadata)
    };
    match api.delete(&name, &params).await {
        Ok(_) => {
            info!(addon, object = %reference, "an object that its add-on no longer has is deleted");
            Ok(())
        }
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(brief(error)),
    }
}
