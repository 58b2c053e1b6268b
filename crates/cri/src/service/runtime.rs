//! `runtime.v1.RuntimeService`.

use berth_cri_api::v1::runtime_service_server::RuntimeService;
use berth_cri_api::v1::*;
use tonic::{Request, Status};

use super::streamed::{Parts, parts};
use super::{Answer, Services, answer};
use crate::{container, events, metrics, sandbox, stats, status, streaming, warm};

#[tonic::async_trait]
impl RuntimeService for Services {
    type GetContainerEventsStream = Parts<ContainerEventResponse>;
    type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;
    type StreamContainersStream = Parts<StreamContainersResponse>;
    type StreamContainerStatsStream = Parts<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Parts<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Parts<StreamPodSandboxMetricsResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(status::version())
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        let config = request.get_ref().config.as_ref();
        let pod = config.and_then(|config| config.metadata.clone());
        self.stage(
            "RunPodSandbox",
            pod,
            request,
            |engine, request| async move {
                let pod_sandbox_id = warm::run(&engine, request).await?;
                Ok(RunPodSandboxResponse { pod_sandbox_id })
            },
        )
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.change(request, |engine, request| async move {
            sandbox::stop(&engine, &request.pod_sandbox_id).await?;
            Ok(StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.change(request, |engine, request| async move {
            sandbox::remove(&engine, &request.pod_sandbox_id).await?;
            Ok(RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let id = &request.pod_sandbox_id;
        answer(sandbox::status(&self.engine, id, request.verbose)?)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let items = sandbox::list(&self.engine, request.into_inner().filter);
        answer(ListPodSandboxResponse { items })
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = sandbox::list(&self.engine, request.into_inner().filter);
        answer(parts(items, |pod_sandboxes| StreamPodSandboxesResponse {
            pod_sandboxes,
        }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let pod = sandbox::pod_of(&self.engine, &request.get_ref().pod_sandbox_id);
        self.stage(
            "CreateContainer",
            pod,
            request,
            |engine, request| async move {
                let container_id = container::create(&engine, request).await?;
                Ok(CreateContainerResponse { container_id })
            },
        )
        .await
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let pod = container::pod_of(&self.engine, &request.get_ref().container_id);
        self.stage(
            "StartContainer",
            pod,
            request,
            |engine, request| async move {
                container::start(&engine, &request.container_id).await?;
                Ok(StartContainerResponse {})
            },
        )
        .await
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
        self.change(request, |engine, request| async move {
            container::remove(&engine, &request.container_id).await?;
            Ok(RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let containers = container::list(&self.engine, request.into_inner().filter);
        answer(ListContainersResponse { containers })
    }

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let items = container::list(&self.engine, request.into_inner().filter);
        answer(parts(items, |containers| StreamContainersResponse {
            containers,
        }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let id = &request.container_id;
        answer(container::status(&self.engine, id, request.verbose)?)
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        self.change(request, |engine, request| async move {
            container::update(&engine, request).await?;
            Ok(UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        self.change(request, |engine, request| async move {
            sandbox::update(&engine, request).await?;
            Ok(UpdatePodSandboxResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        container::reopen_log(&self.engine, &request.into_inner().container_id).await?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        // The timeout has to end the process whoever still waits.
        self.change(request, |engine, request| async move {
            let output = container::exec_sync(&engine, request).await?;
            Ok(ExecSyncResponse {
                stdout: output.stdout,
                stderr: output.stderr,
                exit_code: i32::try_from(output.code).unwrap_or(-1),
            })
        })
        .await
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let url = streaming::prepare_exec(&self.engine, request.into_inner())?;
        answer(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let url = streaming::prepare_attach(&self.engine, &request.into_inner())?;
        answer(AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let url = streaming::prepare_forward(&self.engine, &request.into_inner())?;
        answer(PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        let container = self.engine.containers.get(&id)?;
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

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let items = stats::of_containers(&self.engine, request.into_inner().filter).await;
        answer(parts(items, |container_stats| {
            StreamContainerStatsResponse { container_stats }
        }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let sandbox = self.engine.sandboxes.get(&id)?;
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

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let items = stats::of_sandboxes(&self.engine, request.into_inner().filter).await;
        answer(parts(items, |pod_sandbox_stats| {
            StreamPodSandboxStatsResponse { pod_sandbox_stats }
        }))
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
        self.engine.trials().await;
        answer(status::status(&self.engine, request.into_inner().verbose))
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        self.change(request, |engine, request| async move {
            container::checkpoint(&engine, request).await?;
            Ok(CheckpointContainerResponse {})
        })
        .await
    }

    async fn checkpoint_pod(
        &self,
        _: Request<CheckpointPodRequest>,
    ) -> Answer<CheckpointPodResponse> {
        Err(Status::unimplemented(
            "a pod's containers can only be checkpointed one by one (CheckpointContainer)",
        ))
    }

    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        Err(Status::unimplemented(
            "pods cannot be restored from a checkpoint",
        ))
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        answer(events::stream(&self.engine))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        let descriptors = metrics::descriptors();
        answer(ListMetricDescriptorsResponse { descriptors })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        let pod_metrics = metrics::list(&self.engine).await?;
        answer(ListPodSandboxMetricsResponse { pod_metrics })
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let items = metrics::list(&self.engine).await?;
        answer(parts(items, |pod_sandbox_metrics| {
            StreamPodSandboxMetricsResponse {
                pod_sandbox_metrics,
            }
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        answer(status::runtime_config(&self.engine))
    }
}
