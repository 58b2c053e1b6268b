//! `runtime.v1.RuntimeService`.

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_cri::v1::runtime_service_server::RuntimeService;
use k8s_cri::v1::*;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::{Services, whole};
use crate::streaming::{self, Streams};
use crate::{config, container, metrics, sandbox, stats, status};

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

#[tonic::async_trait]
impl RuntimeService for Services {
    type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "berth".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        let engine = self.engine.clone();
        let request = request.into_inner();
        let pod_sandbox_id = whole(async move { sandbox::run(&engine, request).await }).await?;
        answer(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let engine = self.engine.clone();
        let id = request.into_inner().pod_sandbox_id;
        whole(async move { sandbox::stop(&engine, &id).await }).await?;
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let engine = self.engine.clone();
        let id = request.into_inner().pod_sandbox_id;
        whole(async move { sandbox::remove(&engine, &id).await }).await?;
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        answer(sandbox::status(
            &self.engine,
            &request.pod_sandbox_id,
            request.verbose,
        )?)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let items = sandbox::list(&self.engine, request.into_inner());
        answer(ListPodSandboxResponse { items })
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let engine = self.engine.clone();
        let request = request.into_inner();
        let container_id = whole(async move { container::create(&engine, request).await }).await?;
        answer(CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let engine = self.engine.clone();
        let id = request.into_inner().container_id;
        whole(async move { container::start(&engine, &id).await }).await?;
        answer(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        // Not to be finished without the client: it asks again, perhaps with less patience.
        container::stop(&self.engine, &request.container_id, request.timeout).await?;
        answer(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let engine = self.engine.clone();
        let id = request.into_inner().container_id;
        whole(async move { container::remove(&engine, &id).await }).await?;
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let containers = container::list(&self.engine, request.into_inner());
        answer(ListContainersResponse { containers })
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        answer(container::status(
            &self.engine,
            &request.container_id,
            request.verbose,
        )?)
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let engine = self.engine.clone();
        let request = request.into_inner();
        whole(async move { container::update(&engine, request).await }).await?;
        answer(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        container::reopen_log(&self.engine, &request.into_inner().container_id).await?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let engine = self.engine.clone();
        let request = request.into_inner();
        // The timeout has to end the process whoever still waits.
        let output = whole(async move { container::exec_sync(&engine, request).await }).await?;
        answer(ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: i32::try_from(output.code).unwrap_or(-1),
        })
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let container = self.engine.containers.get(&request.container_id)?;
        container.running(&self.engine)?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("no command to execute"));
        }
        let streams = check(Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        })?;
        let url = self.engine.streaming.url(streaming::Request::Exec {
            container: container.id.clone(),
            command: request.cmd,
            streams,
        });
        answer(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let container = self.engine.containers.get(&request.container_id)?;
        container.running(&self.engine)?;
        let streams = check(Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        })?;
        let url = self.engine.streaming.url(streaming::Request::Attach {
            container: container.id.clone(),
            streams,
        });
        answer(AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let sandbox = self
            .engine
            .sandboxes
            .get(&request.into_inner().pod_sandbox_id)?;
        let url = self.engine.streaming.url(streaming::Request::PortForward {
            sandbox: sandbox.id.clone(),
        });
        answer(PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let container = self
            .engine
            .containers
            .get(&request.into_inner().container_id)?;
        let stats = Some(stats::of_container(&self.engine, &container).await?);
        answer(ContainerStatsResponse { stats })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let stats = stats::of_containers(&self.engine, request.into_inner().filter).await;
        answer(ListContainerStatsResponse { stats })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self
            .engine
            .sandboxes
            .get(&request.into_inner().pod_sandbox_id)?;
        let stats = Some(stats::of_sandbox(&self.engine, &sandbox).await?);
        answer(PodSandboxStatsResponse { stats })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let stats = stats::of_sandboxes(&self.engine, request.into_inner().filter).await;
        answer(ListPodSandboxStatsResponse { stats })
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config.unwrap_or_default();
        let cidr = config.network_config.unwrap_or_default().pod_cidr;
        if !cidr.is_empty() {
            self.engine.set_pod_cidr(&cidr)?;
            self.engine.keep_masquerade().await;
        }
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        answer(status::status(&self.engine, request.into_inner().verbose))
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        let engine = self.engine.clone();
        let request = request.into_inner();
        whole(async move { container::checkpoint(&engine, request).await }).await?;
        answer(CheckpointContainerResponse {})
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.engine.events.subscribe())
            .map(|event| event.map_err(|lagged| Status::data_loss(lagged.to_string())))
            .take_until(self.engine.shutdown.clone().cancelled_owned());
        answer(events.boxed())
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer(ListMetricDescriptorsResponse {
            descriptors: metrics::descriptors(),
        })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        let pod_metrics = metrics::list(&self.engine).await?;
        answer(ListPodSandboxMetricsResponse { pod_metrics })
    }

    async fn runtime_config(
        &self,
        _: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        let driver = match self.engine.config.cgroup_driver {
            config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
            config::CgroupDriver::Systemd => CgroupDriver::Systemd,
        };
        answer(RuntimeConfigResponse {
            linux: Some(LinuxRuntimeConfiguration {
                cgroup_driver: driver.into(),
            }),
        })
    }
}

/// The rules that the CRI sets for stream requests.
fn check(streams: Streams) -> Result<Streams, Status> {
    if streams.tty && streams.stderr {
        return Err(Status::invalid_argument(
            "tty and stderr cannot both be set",
        ));
    }
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Status::invalid_argument(
            "one of stdin, stdout and stderr must be set",
        ));
    }
    Ok(streams)
}
