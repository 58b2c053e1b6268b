//! The keeper of a stranger's streams, from our side: started with the shim, found again after a restart of ours, and
//! replaced when it dies.
//!
//! Tasks: one a pod that notices the keeper's death.

mod kept;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use containerd_shim_protos::api;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::session::{self, Opened};
use super::sockets;
use super::{CreateRequest, ShimConfig, ShimError, bootstrap};
use crate::server::keeper::ADDRESS;
use crate::stdio::stream_socket;
use crate::stream::{Fifos, Hello};

use kept::Kept;
pub(super) use kept::{fields, streams_dir};

/// How long an answer is tried for of keepers that are killed.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two starts of a keeper that dies again and again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a keeper that was told to end may take, and how often it is looked for meanwhile.
const AFTER_END: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// A pod's keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    watch: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[derive(Debug)]
struct Shared {
    config: ShimConfig,
    id: String,
    bundle: PathBuf,
    address: String,
    /// What it holds, by container.
    kept: Mutex<HashMap<String, Kept>>,
    /// Taken alone while another one is started, until it holds what the one before did.
    starting: tokio::sync::RwLock<()>,
    ended: AtomicBool,
}

impl Keeper {
    /// Starts the keeper of a pod, or finds that it runs.
    pub(super) async fn start(
        config: &ShimConfig,
        id: &str,
        bundle: &Path,
    ) -> Result<Self, ShimError> {
        let address = start(config, id, bundle).await?;
        Ok(Self::new(config, id, bundle, address))
    }

    /// Finds the keeper that was started for the pod; one that has died meanwhile is replaced.
    pub(super) async fn find(
        config: &ShimConfig,
        id: &str,
        bundle: &Path,
    ) -> Result<Self, ShimError> {
        let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS)) else {
            return Self::start(config, id, bundle).await;
        };
        let keeper = Self::new(config, id, bundle, address);
        // Without one the pod is still to be had; the next call tries again.
        if !lives(&keeper.shared.address).await
            && let Err(error) = keeper.shared.replace().await
        {
            tracing::error!(id, %error, "no other keeper can be started");
        }
        Ok(keeper)
    }

    fn new(config: &ShimConfig, id: &str, bundle: &Path, address: String) -> Self {
        let shared = Arc::new(Shared {
            config: config.clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            address,
            kept: Mutex::default(),
            starting: tokio::sync::RwLock::default(),
            ended: AtomicBool::new(false),
        });
        let watch = tokio::spawn(watch(shared.address.clone(), Arc::downgrade(&shared)));
        Self { shared, watch }
    }

    /// Has the streams of a container held that is about to be created, and fills the request in.
    pub(super) async fn take(
        &self,
        create: &CreateRequest,
        request: &mut api::CreateTaskRequest,
    ) -> Result<(), ShimError> {
        let fifos = Fifos {
            dir: streams_dir(&create.bundle),
            log: create.log.clone(),
            terminal: create.terminal,
            stdin: create.stdin,
            stdin_once: create.stdin_once,
        };
        kept::note(&fifos)?;
        (request.stdin, request.stdout, request.stderr) = fields(&fifos);
        self.hold(&create.id, fifos, true).await.map(drop)
    }

    /// Has the streams of a container held on; true when its stdin is at its end.
    pub(super) async fn adopt(&self, id: &str, bundle: &Path) -> Result<bool, ShimError> {
        let fifos = kept::load(bundle)?;
        self.hold(id, fifos, false).await
    }

    async fn hold(&self, id: &str, fifos: Fifos, anew: bool) -> Result<bool, ShimError> {
        let hello = Hello::Keep {
            id: id.to_owned(),
            fifos: fifos.clone(),
            anew,
        };
        let opened = self.ask(&hello).await?;
        let kept = Kept::new(fifos);
        self.shared.kept.lock().insert(id.to_owned(), kept);
        Ok(opened.reply.stdin_ended)
    }

    /// What is held of a container.
    pub(super) fn fifos(&self, id: &str) -> Result<Fifos, ShimError> {
        let kept = self.shared.kept.lock();
        let fifos = kept.get(id).map(|kept| kept.fifos.clone());
        fifos.ok_or_else(|| ShimError::NotFound(format!("container {id:?} not found")))
    }

    /// A container has ended: waits until what it wrote is in its log.
    pub(super) async fn drain(&self, id: &str) {
        let drained = self.ask(&Hello::Drain { id: id.to_owned() }).await;
        if let Err(error) = drained
            && !error.is_not_found()
        {
            tracing::warn!(id, %error, "the end of a container's log may be missing");
        }
    }

    /// A container was deleted, or never created.
    pub(super) async fn release(&self, id: &str) {
        let kept = self.shared.kept.lock().remove(id);
        if let Err(error) = self.ask(&Hello::Release { id: id.to_owned() }).await {
            tracing::warn!(id, %error, "a container's streams are still held");
        }
        if let Some(kept) = kept {
            let _ = std::fs::remove_dir_all(kept.fifos.dir);
        }
    }

    pub(super) async fn close_stdin(&self, id: &str) -> Result<(), ShimError> {
        let hello = Hello::CloseStdin { id: id.to_owned() };
        self.ask(&hello).await.map(drop)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shared.kept.lock().is_empty()
    }

    /// Ends the keeper; the pod is gone.
    pub(super) async fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Gone already is as good.
        let _ = session::hello(&self.shared.address, &Hello::End).await;
    }

    /// Opens a connection; to a new keeper when the old one has died. One that was killed still takes connections for a
    /// moment, so that it looks alive and does not answer; and the new one may be killed, too.
    pub(super) async fn ask(&self, hello: &Hello) -> Result<Opened, ShimError> {
        let shared = &self.shared;
        let until = tokio::time::Instant::now() + ANSWER;
        loop {
            match shared.hello(hello).await {
                Err(ShimError::Stream { .. })
                    if !shared.ended.load(Ordering::Relaxed)
                        && tokio::time::Instant::now() < until =>
                {
                    shared.replace().await?;
                    tokio::time::sleep(LOOK).await;
                }
                other => return other,
            }
        }
    }
}

impl Shared {
    async fn hello(&self, hello: &Hello) -> Result<Opened, ShimError> {
        let _complete = self.starting.read().await;
        session::hello(&self.address, hello).await
    }

    /// Starts another keeper for the one that has died, at the same address, and has it go on with all containers.
    async fn replace(&self) -> Result<(), ShimError> {
        let _starting = self.starting.write().await;
        if lives(&self.address).await {
            // Somebody else has replaced it meanwhile.
            return Ok(());
        }
        tracing::warn!(
            id = self.id,
            "the keeper of a pod's streams has died: starting another"
        );
        start(&self.config, &self.id, &self.bundle).await?;
        let kept: Vec<(String, Fifos)> = {
            let kept = self.kept.lock();
            kept.iter()
                .map(|(id, kept)| (id.clone(), kept.fifos.clone()))
                .collect()
        };
        for (id, fifos) in kept {
            let hello = Hello::Keep {
                id: id.clone(),
                fifos,
                anew: false,
            };
            if let Err(error) = session::hello(&self.address, &hello).await {
                tracing::error!(id, %error, "a container's output is not read");
            }
        }
        Ok(())
    }
}

/// Replaces the keeper when it dies. A connection on which nothing is said lives as long as the keeper does.
async fn watch(address: String, keeper: Weak<Shared>) {
    loop {
        if let Ok(mut connection) = UnixStream::connect(stream_socket(&address)).await {
            let _ = connection.read(&mut [0]).await;
        }
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        if keeper.ended.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = keeper.replace().await {
            tracing::error!(id = keeper.id, %error, "no other keeper can be started");
            return;
        }
        drop(keeper);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends the keeper that is noted in a pod's bundle, if there is one, and waits until it has taken its socket away. That of one
/// that was killed goes, too.
pub(super) async fn end(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS)) else {
        return;
    };
    let socket = stream_socket(&address);
    if session::hello(&address, &Hello::End).await.is_ok() {
        let gone = async {
            while socket.exists() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(AFTER_END, gone).await;
    } else if sockets::is_dead(&socket) {
        let _ = std::fs::remove_file(socket);
    }
}

async fn lives(address: &str) -> bool {
    UnixStream::connect(stream_socket(address)).await.is_ok()
}

/// Runs `berth shim keep`, which answers with the keeper's address.
async fn start(config: &ShimConfig, id: &str, bundle: &Path) -> Result<String, ShimError> {
    let program = config.keeper.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(config.keeper.iter().skip(1))
        .args(["-namespace", &config.namespace, "-id", id, "-bundle"])
        .arg(bundle)
        .arg("keep")
        .current_dir(bundle)
        .env("BERTH_SHIM_SOCKET_DIR", &config.socket_dir);
    let out = bootstrap::output(command, program, "keep", None).await?;
    Ok(String::from_utf8_lossy(&out).trim().to_owned())
}
