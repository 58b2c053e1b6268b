//! The pod resources API (`v1.PodResourcesLister`): which container has which devices, for monitoring on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_kubelet_api::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use berth_kubelet_api::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, TopologyInfo,
};
use berth_lifecycle::is_terminal;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::agent::Agent;
use crate::pod_spec::containers;
use crate::sockets::{self, SocketError};

const SOCKET: &str = "kubelet.sock";
/// A client that connects and takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests are names.
const MAX_REQUEST: usize = 64 << 10;

/// Serves it until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let dir = agent.config.plugin_dir.join("pod-resources");
    let listener = match open(&dir) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(dir = %dir.display(), %error, "the pod resources API is not served");
            shutdown.cancelled().await;
            return;
        }
    };
    let service =
        PodResourcesListerServer::new(Lister { agent }).max_decoding_message_size(MAX_REQUEST);
    let served = Server::builder()
        .timeout(PATIENCE)
        .concurrency_limit_per_connection(4)
        .add_service(service)
        .serve_with_incoming_shutdown(
            sockets::connections(listener),
            shutdown.clone().cancelled_owned(),
        )
        .await;
    if let Err(error) = served {
        warn!(%error, "the pod resources API is no longer served");
    }
    let _ = std::fs::remove_file(dir.join(SOCKET));
}

fn open(dir: &Path) -> Result<UnixListener, SocketError> {
    sockets::directory(dir)?;
    sockets::bind(&dir.join(SOCKET))
}

struct Lister {
    agent: Arc<Agent>,
}

impl Lister {
    fn devices(&self, resource: String, device_ids: Vec<String>) -> ContainerDevices {
        let numa = self.agent.devices.numa(&resource, &device_ids);
        ContainerDevices {
            resource_name: resource,
            device_ids,
            topology: topology(numa),
        }
    }

    fn pod(&self, pod: &Pod) -> PodResources {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut held = self.agent.devices.held(uid);
        let one = |name: &str| ContainerResources {
            name: name.to_owned(),
            devices: held
                .remove(name)
                .into_iter()
                .flatten()
                .map(|h| self.devices(h.resource, h.ids))
                .collect(),
            ..ContainerResources::default()
        };
        let names: Vec<&str> = containers(pod).map(|c| c.name.as_str()).collect();
        PodResources {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            containers: names.into_iter().map(one).collect(),
        }
    }

    /// Pods that are not over.
    fn pods(&self) -> Vec<Pod> {
        let all = self.agent.handles().into_iter().map(|h| h.current());
        all.filter(|pod| !is_terminal(pod)).collect()
    }
}

fn topology(numa: Vec<i64>) -> Option<TopologyInfo> {
    let nodes: Vec<NumaNode> = numa.into_iter().map(|id| NumaNode { id }).collect();
    (!nodes.is_empty()).then_some(TopologyInfo { nodes })
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let mut pod_resources: Vec<_> = self.pods().iter().map(|pod| self.pod(pod)).collect();
        pod_resources.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let mut devices = Vec::new();
        for (resource, healthy) in self.agent.devices.healthy() {
            // As the stock kubelet: one entry for the devices of each place.
            let mut places: BTreeMap<Vec<i64>, Vec<String>> = BTreeMap::new();
            for (id, numa) in healthy {
                places.entry(numa).or_default().push(id);
            }
            devices.extend(
                places
                    .into_iter()
                    .map(|(numa, device_ids)| ContainerDevices {
                        resource_name: resource.clone(),
                        device_ids,
                        topology: topology(numa),
                    }),
            );
        }
        // No container has a CPU or memory of its own: there is no static policy.
        Ok(Response::new(AllocatableResourcesResponse {
            devices,
            ..AllocatableResourcesResponse::default()
        }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        let GetPodResourcesRequest {
            pod_name,
            pod_namespace,
        } = request.into_inner();
        let pods = self.pods();
        let found = pods.iter().find(|pod| {
            pod.metadata.name.as_deref() == Some(&pod_name)
                && pod.metadata.namespace.as_deref() == Some(&pod_namespace)
        });
        let Some(pod) = found else {
            return Err(Status::not_found(format!(
                "pod {pod_name} in namespace {pod_namespace} not found"
            )));
        };
        Ok(Response::new(GetPodResourcesResponse {
            pod_resources: Some(self.pod(pod)),
        }))
    }
}
