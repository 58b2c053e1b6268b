//! A device plugin: a gRPC server on a socket in the node's directory, as vendors have it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_kubelet_api::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use berth_kubelet_api::device_plugin::registration_client::RegistrationClient;
use berth_kubelet_api::device_plugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty,
    ListAndWatchResponse, Mount, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// How Allocate answers.
#[derive(Clone)]
pub(crate) enum Answers {
    /// What its devices need.
    Good,
    /// Never.
    Never,
    /// This.
    Bad(AllocateResponse),
}

pub(crate) struct FakePlugin {
    dir: PathBuf,
    pub(crate) resource: String,
    pub(crate) devices: watch::Sender<Vec<Device>>,
    pub(crate) answers: Arc<Mutex<Answers>>,
    /// `Allocate a,b`, `Prefer 1 of a,b`, `PreStart a`.
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    pub(crate) options: DevicePluginOptions,
    /// What it prefers.
    pub(crate) prefers: Arc<Mutex<Vec<String>>>,
    stop: Mutex<CancellationToken>,
}

pub(crate) fn device(id: &str, health: &str) -> Device {
    Device {
        id: id.to_owned(),
        health: health.to_owned(),
        topology: None,
    }
}

pub(crate) fn healthy(ids: &[&str]) -> Vec<Device> {
    ids.iter().map(|id| device(id, "Healthy")).collect()
}

/// A channel to a unix socket.
pub(crate) async fn channel(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let dial = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
}

/// Registers what may be a plugin.
pub(crate) async fn register(dir: &Path, request: RegisterRequest) -> Result<(), Status> {
    let channel = channel(&dir.join("kubelet.sock"))
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    RegistrationClient::new(channel).register(request).await?;
    Ok(())
}

impl FakePlugin {
    /// One that isn't served yet.
    pub(crate) fn new(dir: &Path, resource: &str, devices: Vec<Device>) -> Self {
        Self {
            dir: dir.to_owned(),
            resource: resource.to_owned(),
            devices: watch::Sender::new(devices),
            answers: Arc::new(Mutex::new(Answers::Good)),
            calls: Arc::default(),
            options: DevicePluginOptions::default(),
            prefers: Arc::default(),
            stop: Mutex::new(CancellationToken::new()),
        }
    }

    fn endpoint(&self) -> String {
        format!("{}.sock", self.resource.replace('/', "_"))
    }

    /// Serves and registers, again and again until the node is there.
    pub(crate) async fn start(&self) {
        let stop = CancellationToken::new();
        let old = std::mem::replace(&mut *self.stop.lock(), stop.clone());
        old.cancel();
        let endpoint = self.endpoint();
        let request = RegisterRequest {
            version: "v1beta1".to_owned(),
            endpoint: endpoint.clone(),
            resource_name: self.resource.clone(),
            options: Some(self.options),
        };
        berth_testkit::wait_for_async("the registration", super::LIMIT, || async {
            // The node clears the directory when it starts, as a plugin has to expect.
            let path = self.dir.join(&endpoint);
            if !path.exists() {
                self.serve(&path, &stop).map_err(|e| e.to_string())?;
            }
            register(&self.dir, request.clone())
                .await
                .map_err(|e| e.to_string())
        })
        .await;
    }

    fn serve(&self, path: &Path, stop: &CancellationToken) -> std::io::Result<()> {
        let listener = UnixListener::bind(path)?;
        let service = Service {
            resource: self.resource.clone(),
            devices: self.devices.subscribe(),
            answers: Arc::clone(&self.answers),
            calls: Arc::clone(&self.calls),
            prefers: Arc::clone(&self.prefers),
            stop: stop.clone(),
        };
        let serve = Server::builder()
            .add_service(DevicePluginServer::new(service).max_encoding_message_size(64 << 20))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(serve);
        Ok(())
    }

    /// Ends it as a plugin that is killed.
    pub(crate) fn stop(&self) {
        self.stop.lock().cancel();
        let _ = std::fs::remove_file(self.dir.join(self.endpoint()));
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }
}

struct Service {
    resource: String,
    devices: watch::Receiver<Vec<Device>>,
    answers: Arc<Mutex<Answers>>,
    calls: Arc<Mutex<Vec<String>>>,
    prefers: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Service {
    fn answer(&self, ids: &[String]) -> ContainerAllocateResponse {
        ContainerAllocateResponse {
            envs: [("DEVICES".to_owned(), ids.join(","))].into(),
            mounts: vec![Mount {
                container_path: "/opt/vendor".to_owned(),
                host_path: "/usr/share".to_owned(),
                read_only: true,
            }],
            devices: vec![DeviceSpec {
                container_path: "/dev/gpu0".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "rw".to_owned(),
            }],
            annotations: [("vendor.com/ids".to_owned(), ids.join(","))].into(),
            cdi_devices: ids
                .iter()
                .map(|id| CdiDevice {
                    name: format!("{}={id}", self.resource),
                })
                .collect(),
        }
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.clone());
        let lists = lists.map(|devices| Ok(ListAndWatchResponse { devices }));
        let lists = lists.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(lists.boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let request = request.into_inner().container_requests.remove(0);
        let all = request.available_device_i_ds.join(",");
        let call = format!("Prefer {} of {all}", request.allocation_size);
        self.calls.lock().push(call);
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: vec![ContainerPreferredAllocationResponse {
                device_i_ds: self.prefers.lock().clone(),
            }],
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request
            .into_inner()
            .container_requests
            .remove(0)
            .devices_ids;
        self.calls
            .lock()
            .push(format!("Allocate {}", ids.join(",")));
        let answers = self.answers.lock().clone();
        match answers {
            Answers::Good => Ok(Response::new(AllocateResponse {
                container_responses: vec![self.answer(&ids)],
            })),
            Answers::Never => std::future::pending().await,
            Answers::Bad(answer) => Ok(Response::new(answer)),
        }
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids.join(",");
        self.calls.lock().push(format!("PreStart {ids}"));
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
