//! All containers of the pod.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::CreateTaskRequest;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attach::Holder;
use super::container::{self, Container};
use super::error::Error;
use super::io::Io;
use super::kills::Kills;
use super::reaper::Reaper;
use crate::stream::{Hello, Reply};

/// What the daemon's tasks share.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) namespace: String,
    pub(super) socket_dir: PathBuf,
    pub(super) reaper: Arc<Reaper>,
    kills: Arc<Mutex<Kills>>,
    /// Rung when the daemon is to end.
    pub(super) shutdown: Notify,
    /// Rung at each piece of work.
    pub(super) work: Notify,
    /// Rung when a container has been made, or could not be.
    made: Notify,
    /// None while a container is being created.
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
}

impl Shim {
    pub(super) fn new(namespace: String, socket_dir: PathBuf, reaper: Arc<Reaper>) -> Self {
        Self {
            namespace,
            socket_dir,
            reaper,
            kills: Arc::default(),
            shutdown: Notify::new(),
            work: Notify::new(),
            made: Notify::new(),
            containers: Mutex::default(),
        }
    }

    pub(super) async fn create(
        &self,
        request: &CreateTaskRequest,
    ) -> Result<Arc<Container>, Error> {
        if request.id.is_empty() || request.id.contains('/') {
            return Err(Error::Invalid(format!("container id {:?}", request.id)));
        }
        {
            let mut containers = self.containers.lock();
            if containers.contains_key(&request.id) {
                return Err(Error::Exists(request.id.clone()));
            }
            containers.insert(request.id.clone(), None);
        }
        let made = container::create(
            request,
            &self.namespace,
            &self.socket_dir,
            &self.reaper,
            &self.kills,
        )
        .await;
        let mut containers = self.containers.lock();
        // Whoever wakes has to wait for the lock.
        self.made.notify_waiters();
        match made {
            Ok(container) => {
                containers.insert(request.id.clone(), Some(Arc::clone(&container)));
                Ok(container)
            }
            Err(e) => {
                containers.remove(&request.id);
                Err(e)
            }
        }
    }

    /// Finds a container for a call.
    pub(super) fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        self.work.notify_one();
        let found = self.containers.lock().get(id).cloned().flatten();
        found.ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    /// Finds a container once no call that makes or changes it is under way.
    pub(super) async fn settled(&self, id: &str) -> Result<Arc<Container>, Error> {
        loop {
            let made = self.made.notified();
            let found = self.containers.lock().get(id).cloned();
            match found {
                None => return Err(Error::NoContainer(id.to_owned())),
                Some(Some(container)) => {
                    container.settled().await;
                    return Ok(container);
                }
                Some(None) => {}
            }
            made.await;
        }
    }

    pub(super) fn forget(&self, id: &str) {
        self.containers.lock().remove(id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.containers.lock().is_empty()
    }
}

#[async_trait]
impl Holder for Shim {
    fn streams(&self, id: &str, exec_id: &str) -> Result<Arc<Io>, Error> {
        let process = self.container(id)?.process(exec_id)?;
        Ok(Arc::clone(&process.io))
    }

    async fn keep(&self, _: Hello) -> Result<Reply, Error> {
        Err(Error::Unsupported(
            "a shim keeps no streams but its own".to_owned(),
        ))
    }
}
