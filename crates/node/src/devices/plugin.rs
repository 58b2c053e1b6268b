//! One device plugin: connected to, followed until it goes or another one takes its resource.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_kubelet_api::device_plugin::{DevicePluginOptions, Empty, ListAndWatchResponse};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;
use tracing::{info, warn};

use super::state::{Changes, Client, ListError, Plugin};
use crate::agent::Agent;
use crate::cri::rpc_message;

/// A plugin listens by then.
const CONNECT: Duration = Duration::from_secs(10);
/// No answer of a plugin is larger: ten thousand devices fit.
const MAX_ANSWER: usize = 4 << 20;
/// A plugin that changes its mind faster is read no faster; what it sends waits with it.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a plugin is no longer followed.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{} is no socket", .0.display())]
    NoSocket(PathBuf),
    #[error("cannot look at {}: {source}", path.display())]
    Look {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot connect: {}", Brief(.0))]
    Connect(tonic::transport::Error),
    #[error("it does not answer within {CONNECT:?}")]
    Silent,
    #[error("ListAndWatch: {}", rpc_message(.0))]
    Rpc(Box<tonic::Status>),
    #[error("it has ended its list of devices")]
    Ended,
    #[error("its list of devices is not taken: {0}")]
    List(#[from] ListError),
}

/// An error with its causes: the outermost says no more than "transport error".
struct Brief<'a>(&'a tonic::transport::Error);

impl std::fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut cause: &dyn std::error::Error = self.0;
        while let Some(next) = cause.source() {
            cause = next;
        }
        write!(f, "{cause}")
    }
}

/// A plugin that has registered.
pub(super) struct Registered {
    pub(super) resource: String,
    pub(super) socket: PathBuf,
    pub(super) options: DevicePluginOptions,
    pub(super) generation: u64,
    /// Cancelled when another one takes the resource.
    pub(super) replaced: CancellationToken,
}

/// Follows it until it goes.
pub(super) async fn follow(agent: Arc<Agent>, plugin: Registered) {
    let stop = agent.tasks.stop_token();
    let end = tokio::select! {
        () = stop.cancelled() => return,
        () = plugin.replaced.cancelled() => return,
        end = work(&agent, &plugin) => end,
    };
    let resource = &plugin.resource;
    warn!(resource, error = %end, "the device plugin is gone; its devices count as unhealthy until it registers again");
    let state = &agent.devices.state;
    let changes = state
        .lock()
        .lost(resource, plugin.generation, Instant::now());
    tell(&agent, changes);
}

async fn work(agent: &Agent, plugin: &Registered) -> End {
    match open(plugin).await {
        Ok((client, stream)) => read(agent, plugin, client, stream).await,
        Err(end) => end,
    }
}

async fn open(plugin: &Registered) -> Result<(Client, Streaming<ListAndWatchResponse>), End> {
    let connect = async {
        let mut client = connect(&plugin.socket).await?;
        let stream = client.list_and_watch(Empty {}).await;
        let stream = stream.map_err(|e| End::Rpc(Box::new(e)))?.into_inner();
        Ok((client, stream))
    };
    tokio::time::timeout(CONNECT, connect)
        .await
        .unwrap_or(Err(End::Silent))
}

async fn connect(path: &Path) -> Result<Client, End> {
    let found = std::fs::symlink_metadata(path).map_err(|source| End::Look {
        path: path.to_owned(),
        source,
    })?;
    // A link could lead to any service of this machine.
    if !found.file_type().is_socket() {
        return Err(End::NoSocket(path.to_owned()));
    }
    let path = path.to_owned();
    let dial = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
        .map_err(End::Connect)?;
    Ok(Client::new(channel).max_decoding_message_size(MAX_ANSWER))
}

async fn read(
    agent: &Agent,
    plugin: &Registered,
    client: Client,
    mut stream: Streaming<ListAndWatchResponse>,
) -> End {
    let (resource, generation) = (&plugin.resource, plugin.generation);
    let mut first = true;
    loop {
        let list = match stream.message().await {
            Ok(Some(list)) => list.devices,
            Ok(None) => return End::Ended,
            Err(status) => return End::Rpc(Box::new(status)),
        };
        let all = list.len();
        let changes = {
            let mut state = agent.devices.state.lock();
            if first {
                let client = client.clone();
                let options = plugin.options;
                state.connected(resource, generation, Plugin { client, options });
            }
            state.listed(resource, generation, list)
        };
        match changes {
            Ok(changes) => {
                if std::mem::take(&mut first) {
                    info!(resource, devices = all, "device plugin connected");
                }
                tell(agent, changes);
            }
            Err(error) => return error.into(),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has the Node and the pods' statuses say it.
fn tell(agent: &Agent, changes: Changes) {
    if changes.counts {
        agent.node_poke.notify_one();
    }
    for uid in changes.pods {
        agent.wake(&uid);
    }
}
