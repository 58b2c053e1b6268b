//! The CRI client: one lazily connected channel to the runtime's unix socket, shared by all.

mod deadline;
mod observe;
mod traced;

use std::path::Path;

use berth_cri_api::v1::image_service_client::ImageServiceClient;
use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

pub(crate) use deadline::{Deadlines, Limit, within};
pub(crate) use observe::{observe, timestamp};

/// Labels that tie sandboxes and containers to pods, as the stock kubelet writes them.
pub(crate) mod labels {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
    pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
    pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
}

/// Answers of up to this size are read: a list has all labels and annotations of all pods, and a few users can make these
/// as large as objects may be (1.5 MiB).
const MAX_MESSAGE: usize = 512 << 20;

/// Clients of both CRI services; cheap to clone.
#[derive(Clone)]
pub(crate) struct Cri {
    runtime: RuntimeServiceClient<Deadlines>,
    images: ImageServiceClient<Deadlines>,
}

impl Cri {
    /// Connects on first use and again after every loss.
    pub(crate) fn lazy(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let channel =
            Endpoint::from_static("http://cri.sock").connect_with_connector_lazy(service_fn(
                move |_: Uri| {
                    let socket = socket.clone();
                    async move {
                        Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?))
                    }
                },
            ));
        let channel = Deadlines(channel);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        }
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Deadlines> {
        self.runtime.clone()
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Deadlines> {
        self.images.clone()
    }
}

/// What a failed call says, with its code as the stock kubelet prints it.
pub(crate) fn rpc_message(status: &tonic::Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}
