//! `CheckpointContainer`: an archive of what the runtime has dumped, in the form that CRI-O and
//! containerd share (`checkpoint/`, `config.dump`, `spec.dump`).

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::CheckpointContainerRequest;
use berth_oci::runtime::RuntimeKind;
use berth_shim::private;
use serde_json::json;

use crate::engine::{Engine, Shared, blocking};
use crate::error::CriError;
use crate::layout::remove_tree;
use crate::record::ContainerRecord;

/// Writes a checkpoint through the runtime, which may not be able to. After an error nothing of
/// it is left.
pub(crate) async fn checkpoint(
    engine: &Shared,
    request: CheckpointContainerRequest,
) -> Result<(), CriError> {
    let container = engine.containers.get(&request.container_id)?;
    if !Path::new(&request.location).is_absolute() {
        return Err(CriError::Invalid(format!(
            "the location {:?} is no absolute path",
            request.location
        )));
    }
    let sandbox = container.running(engine)?;
    if sandbox.record().runtime.gvisor().is_some() {
        return Err(CriError::Unsupported(
            "gVisor can't checkpoint one container of a pod".to_owned(),
        ));
    }
    if sandbox.record().runtime.kind() == RuntimeKind::Berth {
        return Err(CriError::Unsupported(
            "the runtime inside berth makes no checkpoints; runc does, with criu installed"
                .to_owned(),
        ));
    }
    let shim = sandbox.shim()?;
    let work = engine.layout.bundle(&container.id).join("checkpoint");
    let images = work.join("checkpoint");
    // The container's memory is in it.
    private::create_dir(&images).map_err(CriError::io("make", &images))?;
    let dump = shim.checkpoint(&container.id, &images);
    let done = match u64::try_from(request.timeout) {
        Ok(seconds @ 1..) => tokio::time::timeout(Duration::from_secs(seconds), dump)
            .await
            .unwrap_or(Err(berth_shim::client::ShimError::Timeout(
                Duration::from_secs(seconds),
            ))),
        _ => dump.await,
    };
    let result = match done {
        Ok(()) => {
            let (shared, record, work) = (Arc::clone(engine), container.record(), work.clone());
            blocking(move || pack(&shared, &record, &work, Path::new(&request.location))).await
        }
        // Debian's crun is built without CRIU.
        Err(error) if error.to_string().contains("unknown command") => {
            let handler = sandbox.record().runtime.handler.clone();
            Err(CriError::Unsupported(format!(
                "the build of runtime handler {handler:?} makes no checkpoints"
            )))
        }
        Err(error) => {
            if let Some(line) = last_error(&images) {
                tracing::warn!(id = container.id, line, "the checkpoint's log ends with");
            }
            Err(CriError::shim("checkpoint container", &container.id)(error))
        }
    };
    remove_tree(&work).map_err(CriError::io("remove", &work))?;
    result
}

/// What CRIU complains of, in its log.
fn last_error(images: &Path) -> Option<String> {
    let text = std::fs::read_to_string(images.join("dump.log")).ok()?;
    let line = text.lines().rfind(|line| line.contains("Error"))?;
    Some(line.to_owned())
}

/// Puts the dump and what describes the container into an archive for root's eyes only: it holds
/// the container's memory.
fn pack(
    engine: &Engine,
    record: &ContainerRecord,
    work: &Path,
    location: &Path,
) -> Result<(), CriError> {
    let spec = engine.layout.bundle(&record.id).join("config.json");
    std::fs::copy(&spec, work.join("spec.dump")).map_err(CriError::io("copy", &spec))?;
    let config = &record.config.0;
    let time = |nanoseconds: i64| {
        jiff::Timestamp::from_nanosecond(nanoseconds.into())
            .map(|time| time.to_string())
            .unwrap_or_default()
    };
    let text = json!({
        "id": record.id,
        "name": config.metadata.clone().unwrap_or_default().name,
        "rootfsImageName": config.image.clone().unwrap_or_default().image,
        "rootfsImageRef": record.image_id,
        "runtime": engine.sandboxes.get(&record.sandbox_id)?.record().runtime.handler,
        "createdTime": time(record.created_at),
        "checkpointedTime": time(crate::engine::now()),
    });
    let path = work.join("config.dump");
    private::write(&path, text.to_string().as_bytes()).map_err(CriError::io("write", &path))?;
    let mut name = location.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let write = || {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(part)?;
        let mut archive = tar::Builder::new(file);
        archive.append_dir_all(".", work)?;
        archive.into_inner()?.sync_all()?;
        std::fs::rename(part, location)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(part);
        CriError::io("write the checkpoint", location)(error)
    })
}
