//! `keep`: the keeper of a stranger's streams, one small process beside the shim of a pod.
//!
//! A stranger's shim passes a container's output to FIFOs and forgets what nobody reads. The keeper reads them while
//! `berth cri` comes and goes: it writes the logs and serves attach, as our own shim does, on a stream socket of the same
//! protocol. It runs nothing and is nobody's parent, so its death costs no container; another one goes on at the FIFOs.
//!
//! Tasks: the stream socket's listener and two a client, and the pumps of each container's outputs.

mod fifos;

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::args::Args;
use super::attach::{self, Holder};
use super::error::Error;
use super::io::Io;
use super::{daemon, trim};
use crate::private;
use crate::stdio::stream_socket;
use crate::stream::{Fifos, Hello, Reply};

/// The note of the keeper's address in the pod's bundle.
pub(crate) const ADDRESS: &str = "keeper.address";

/// How long after a container's deletion its shim may take to close its ends of the FIFOs.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the answer to `end` may be under way.
const FAREWELL: Duration = Duration::from_millis(100);

pub(super) fn keep(args: &Args) -> Result<ExitCode, Error> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(Error::io("working directory"))?,
    };
    let dir = daemon::socket_dir();
    daemon::make_socket_dir(&dir)?;
    let name = daemon::socket_path(&dir, &args.namespace, &format!("{}/keeper", args.id));
    let address = format!("unix://{}", name.display());
    let socket = stream_socket(&address);
    let Some(listener) = daemon::bind(&socket)? else {
        return answer(&bundle, &address);
    };
    match daemon::fork()? {
        None => {
            let detached = daemon::detach(&bundle.join("keeper.log"), &[listener.as_fd()]);
            Ok(detached.map_or(ExitCode::FAILURE, |()| serve(listener, socket)))
        }
        Some(child) => {
            let _ = private::write(&bundle.join("keeper.pid"), child.to_string().as_bytes());
            answer(&bundle, &address)
        }
    }
}

fn answer(bundle: &Path, address: &str) -> Result<ExitCode, Error> {
    let path = bundle.join(ADDRESS);
    private::write(&path, address.as_bytes()).map_err(|source| Error::File {
        what: "note of the keeper",
        path: path.clone(),
        source,
    })?;
    let mut out = std::io::stdout();
    out.write_all(address.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn serve(listener: UnixListener, socket: PathBuf) -> ExitCode {
    daemon::run(tracing::Level::WARN, &[socket], async move {
        let enduring = daemon::endure()?;
        listener.set_nonblocking(true)?;
        let listener = Arc::new(tokio::net::UnixListener::from_std(listener)?);
        let keeper = Arc::new(Keeper::default());
        let holder = Arc::clone(&keeper);
        let listening = daemon::keep("streams", move || {
            attach::listen(Arc::clone(&listener), Arc::clone(&holder))
        });
        let trimmed = Arc::clone(&keeper);
        let trimming = daemon::keep("trim", move || {
            let trimmed = Arc::clone(&trimmed);
            async move { trim::task(&trimmed.work).await }
        });
        keeper.work.notify_one();
        keeper.ended.notified().await;
        tokio::time::sleep(FAREWELL).await;
        for task in [enduring, listening, trimming] {
            task.abort();
        }
        Ok(())
    })
}

/// What the keeper's tasks share.
#[derive(Debug, Default)]
struct Keeper {
    kept: Mutex<HashMap<String, Arc<Io>>>,
    /// Rung when the keeper is to end.
    ended: Notify,
    /// Rung at each piece of work.
    work: Notify,
}

impl Keeper {
    async fn take(&self, id: String, fifos: &Fifos, anew: bool) -> Result<Reply, Error> {
        let held = if anew {
            self.kept.lock().remove(&id)
        } else {
            self.kept.lock().get(&id).cloned()
        };
        match held {
            Some(io) if anew => io.close().await,
            Some(io) => {
                return Ok(Reply {
                    stdin_ended: io.stdin_ended(),
                    ..Reply::default()
                });
            }
            None => {}
        }
        let io = fifos::open(fifos, anew)?;
        io.run()?;
        self.kept.lock().insert(id, Arc::new(io));
        Ok(Reply::default())
    }

    async fn release(&self, id: &str) {
        let held = self.kept.lock().remove(id);
        if let Some(io) = held {
            let _ = tokio::time::timeout(LAST_WORDS, io.drain()).await;
            io.close().await;
        }
    }
}

#[async_trait]
impl Holder for Keeper {
    fn streams(&self, id: &str, exec_id: &str) -> Result<Arc<Io>, Error> {
        self.work.notify_one();
        let held = self.kept.lock().get(id).cloned();
        held.filter(|_| exec_id.is_empty())
            .ok_or_else(|| Error::NoProcess {
                id: id.to_owned(),
                exec_id: exec_id.to_owned(),
            })
    }

    async fn keep(&self, hello: Hello) -> Result<Reply, Error> {
        self.work.notify_one();
        match hello {
            Hello::Keep { id, fifos, anew } => return self.take(id, &fifos, anew).await,
            Hello::Drain { id } => self.streams(&id, "")?.drain().await,
            Hello::CloseStdin { id } => self.streams(&id, "")?.close_stdin(),
            Hello::Release { id } => self.release(&id).await,
            Hello::End => {
                let kept = std::mem::take(&mut *self.kept.lock());
                for io in kept.into_values() {
                    io.close().await;
                }
                self.ended.notify_one();
            }
            Hello::Attach { .. } | Hello::ReopenLog { .. } => {
                return Err(Error::Unsupported("not a keeper's own".to_owned()));
            }
        }
        Ok(Reply::default())
    }
}
