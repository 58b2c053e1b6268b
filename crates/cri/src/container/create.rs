//! `CreateContainer`: root filesystem, user, spec. The process comes with the start.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use berth_cri_api::v1::{
    ContainerConfig, ContainerEventType, CreateContainerRequest, NamespaceOption, PodSandboxConfig,
    SecurityProfile,
};
use berth_image::{Image, ImageConfig};
use berth_shim::private;

use super::{Container, rootfs, spec, user, volumes};
use crate::engine::{Engine, Shared, blocking, new_id, now};
use crate::error::CriError;
use crate::known;
use crate::layout::{make_private, remove_tree};
use crate::record::{ContainerPhase, ContainerRecord, Phase, SandboxRecord, UserRecord, Wire};
use crate::sandbox;
use crate::sound;

/// Makes a container and gives its id. After an error nothing of it is left.
pub(crate) async fn create(
    engine: &Shared,
    request: CreateContainerRequest,
) -> Result<String, CriError> {
    let config = request
        .config
        .ok_or_else(|| CriError::Invalid("the request has no config".to_owned()))?;
    let pod = engine.sandboxes.get(&request.pod_sandbox_id)?;
    let _open = pod.open.read().await;
    let pod_record = pod.record();
    if pod_record.phase != Phase::Ready {
        return Err(CriError::State(format!(
            "pod sandbox {} is not ready",
            pod.id
        )));
    }
    if let Some(metadata) = &config.metadata {
        engine.held.check_container(&pod.id, &metadata.name)?;
    }
    check(&config, &pod_record, request.sandbox_config.as_ref())?;
    let reference = config.image.clone().unwrap_or_default().image;
    let image = engine
        .images
        .get(&reference)?
        .ok_or_else(|| CriError::NotFound {
            kind: "image",
            id: reference,
        })?;
    let id = new_id();
    engine
        .containers
        .reserve(&super::name(&config, &pod_record.config.0), &id)?;
    let shared = Arc::clone(engine);
    let container_id = id.clone();
    let made = berth_trace::of_call(
        "root filesystem and spec",
        blocking(move || {
            let made = make(&shared, &container_id, config, &pod_record, &image);
            if made.is_err()
                && let Err(undo) = discard(&shared, &container_id)
            {
                tracing::error!(
                    id = container_id,
                    error = crate::error::chain(&undo),
                    "a failed container could not be removed"
                );
            }
            made
        }),
    )
    .await;
    match made {
        Ok(container) => {
            engine.containers.insert(&id, Arc::clone(&container));
            engine.events.container(
                engine,
                ContainerEventType::ContainerCreatedEvent,
                &container,
            );
            Ok(id)
        }
        Err(error) => {
            engine.containers.remove(&id);
            Err(error)
        }
    }
}

/// What a container can't have.
fn check(
    config: &ContainerConfig,
    pod: &SandboxRecord,
    given: Option<&PodSandboxConfig>,
) -> Result<(), CriError> {
    if config
        .metadata
        .as_ref()
        .is_none_or(|metadata| metadata.name.is_empty())
    {
        return Err(CriError::Invalid(
            "the container has no name (metadata.name)".to_owned(),
        ));
    }
    known::check_container(config)?;
    sound::check_container(config)?;
    let linux = config.linux.as_ref();
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    // As the request tells of the pod by now, which may be more than what it was made with: a debug container of an
    // ordinary pod can be privileged. The sandbox itself stays as it is.
    if security.is_some_and(|security| security.privileged)
        && !sandbox::privileged(given.unwrap_or(&pod.config.0))
    {
        return Err(CriError::Invalid(
            "a privileged container needs a privileged pod sandbox".to_owned(),
        ));
    }
    let users = |options: Option<&NamespaceOption>| sandbox::wanted_users(options);
    let pod_options = pod
        .config
        .0
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|security| security.namespace_options.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    // One that says nothing of users is in its pod's namespace.
    if options.is_some_and(|options| options.userns_options.is_some())
        && users(options) != users(pod_options)
    {
        return Err(CriError::Invalid(
            "a container's user namespace (namespace_options.userns_options) is its pod's"
                .to_owned(),
        ));
    }
    for profile in [
        security.and_then(|security| security.seccomp.as_ref()),
        security.and_then(|security| security.apparmor.as_ref()),
    ] {
        if let Some(SecurityProfile {
            profile_type: 2,
            localhost_ref,
        }) = profile
            && localhost_ref.is_empty()
        {
            return Err(CriError::Invalid(
                "a Localhost profile without localhost_ref".to_owned(),
            ));
        }
    }
    let memory = linux
        .and_then(|linux| linux.resources.as_ref())
        .map_or(0, |resources| resources.memory_limit_in_bytes);
    if let Some(least) = pod.runtime.container_min_memory
        && memory > 0
        && memory < least
    {
        return Err(CriError::Invalid(format!(
            "memory limit {memory} is below the {least} bytes that runtime handler {:?} needs",
            pod.runtime.handler
        )));
    }
    Ok(())
}

fn make(
    engine: &Engine,
    id: &str,
    mut config: ContainerConfig,
    pod: &SandboxRecord,
    image: &Image,
) -> Result<Arc<Container>, CriError> {
    let directory = |dir: &Path| std::fs::create_dir_all(dir).map_err(CriError::io("make", dir));
    let bundle = engine.layout.bundle(id);
    // The record's folder goes first: a start after a crash finds what else there may be by it.
    let root = sandbox::root_of(&pod.config.0)?;
    for dir in [&engine.layout.container_record(id), &bundle] {
        make_private(dir, root).map_err(CriError::io("make", dir))?;
    }
    directory(&bundle.join("rootfs"))?;
    engine.images.prepare(id, image.id.as_str())?;
    let mounter = pod.runtime.rootfs_mounter();
    let files = rootfs::prepare(engine, id, pod, mounter)?;

    let user = user::resolve(&files.path(), &config, &image.config)?;
    // The status tells which image a name meant then.
    for volume in config.mounts.iter_mut().flat_map(|mount| &mut mount.image) {
        if let Some(found) = engine.images.get(&volume.image)? {
            volume.image_ref = found.id.to_string();
        }
    }
    let log_path = log_path(&config, pod)?;
    let mut record = ContainerRecord {
        id: id.to_owned(),
        sandbox_id: pod.id.clone(),
        phase: ContainerPhase::Created,
        created_at: now(),
        started_at: 0,
        asked: false,
        pid: 0,
        image_id: image.id.to_string(),
        image_digest: image.repo_digests.first().cloned().unwrap_or_default(),
        image_tag: image.repo_tags.first().cloned().unwrap_or_default(),
        stop_signal: stop_signal(&config, &image.config),
        log_path,
        user: UserRecord {
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
        },
        cgroup: Default::default(),
        oom_killed: false,
        rootfs: mounter,
        config: Wire(config),
    };
    super::declared::make(engine, id, &files.path(), &record.config.0, &image.config)?;
    let spec = spec::build(engine, pod, &record, user, Some(&image.config))?;
    if let Some(path) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone())
    {
        record.cgroup = path;
    }
    let path = bundle.join("config.json");
    private::write(&path, &serde_json::to_vec(&spec)?).map_err(CriError::io("write", &path))?;
    let container = Container::new(engine, record);
    container.update(|_| {})?;
    Ok(Arc::new(container))
}

/// The container's own, else its image's.
fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> String {
    match berth_cri_api::signal::name(config.stop_signal()) {
        chosen if chosen.is_empty() => image.stop_signal.clone(),
        chosen => chosen,
    }
}

/// Where the container's log goes. The directory is the kubelet's to choose; the rest stays below it.
fn log_path(config: &ContainerConfig, pod: &SandboxRecord) -> Result<Option<PathBuf>, CriError> {
    let directory = Path::new(&pod.config.0.log_directory);
    let path = Path::new(&config.log_path);
    if directory.as_os_str().is_empty() || path.as_os_str().is_empty() {
        return Ok(None);
    }
    let below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !directory.is_absolute() || !below {
        return Err(CriError::Invalid(format!(
            "log_path {path:?} must be a path below log_directory {directory:?}, which must be absolute"
        )));
    }
    Ok(Some(directory.join(path)))
}

/// Removes everything that belongs to a container's id but its log.
pub(crate) fn discard(engine: &Engine, id: &str) -> Result<(), CriError> {
    let bundle = engine.layout.bundle(id);
    volumes::give_back(engine, id)?;
    rootfs::give_back(engine, id)?;
    remove_tree(&bundle).map_err(CriError::io("remove", &bundle))?;
    let dir = engine.layout.container_record(id);
    remove_tree(&dir).map_err(CriError::io("remove", &dir))
}
