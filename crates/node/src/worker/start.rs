//! Images and containers: pull beside everything else, then create, start and run the hook.

use std::collections::HashMap;
use std::sync::Arc;

use berth_core::event::EventType::{Normal, Warning};
use berth_cri_api::v1::{
    ContainerConfig, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    LinuxContainerResources, PodSandboxConfig, StartContainerRequest,
};
use berth_lifecycle::backoff::go_duration;
use berth_lifecycle::{Backoffs, Kill, Problem, Role, RunState, Start};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::Worker;
use crate::container_config::{Parts, container_config};
use crate::cri::{labels, rpc_message};
use crate::events::MESSAGE_BYTES;
use crate::hooks;
use crate::images::Image;
use crate::pod_files::first_bytes;
use crate::pod_network::asked::REASON;
use crate::sandbox_config::log_directory;

#[derive(Clone, Debug)]
enum Pull {
    Running,
    Done(Image),
    /// `told`: the container's state has said it.
    Failed {
        message: String,
        at: Timestamp,
        told: bool,
    },
}

/// Pulls by container and attempt.
#[derive(Default)]
pub(super) struct Pulls {
    list: Arc<Mutex<HashMap<(String, u32), Pull>>>,
    backoffs: Backoffs,
}

impl Worker {
    pub(super) fn container(&self, role: Role) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        match role {
            Role::Init(i) => spec.init_containers.as_ref()?.get(i).cloned(),
            Role::App(i) => spec.containers.get(i).cloned(),
            Role::Ephemeral(i) => {
                let e = spec.ephemeral_containers.as_ref()?.get(i)?;
                Some(berth_core::container::as_container(e.clone()))
            }
        }
    }

    /// Begins the pulls of what is to start, so that they run beside the sandbox's creation.
    pub(super) fn begin_pulls(&mut self, start: &[Start], sandbox: &PodSandboxConfig) {
        for s in start {
            if let Some(c) = self.container(s.role) {
                self.begin_pull(&c, s.attempt, sandbox);
            }
        }
    }

    fn begin_pull(&mut self, c: &Container, attempt: u32, sandbox: &PodSandboxConfig) {
        let key = (c.name.clone(), attempt);
        let image = c.image.clone().unwrap_or_default();
        let now = Timestamp::now();
        {
            let mut list = self.pulls.list.lock();
            match list.get(&key) {
                Some(Pull::Running | Pull::Done(_)) => return,
                Some(Pull::Failed { told: false, .. }) => return,
                Some(Pull::Failed { at, .. })
                    if self.pulls.backoffs.until(&image, *at, now).is_some() =>
                {
                    return;
                }
                Some(Pull::Failed { .. }) | None => {}
            }
            list.insert(key.clone(), Pull::Running);
        }
        let agent = Arc::clone(&self.agent);
        let handle = Arc::clone(&self.handle);
        let pod = Arc::clone(&self.pod);
        let list = Arc::clone(&self.pulls.list);
        let handler = self.handler.clone().unwrap_or_default();
        let policy = pull_policy(c, &image);
        let sandbox = sandbox.clone();
        let name = c.name.clone();
        let shutdown = self.agent.tasks.stop_token();
        let mut stage = self.stage_of("image", &image);
        let fetch = Box::pin(async move {
            let fetch = fetch(&agent, &pod, &name, &image, &handler, policy, sandbox);
            let found = stage.scope(fetch).await;
            if found.is_err() {
                stage.fail();
            }
            found
        });
        let tasks = self.agent.tasks.clone();
        tasks.spawn("image pull", async move {
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = fetch => result,
            };
            let outcome = match result {
                Ok(image) => Pull::Done(image),
                Err(message) => Pull::Failed {
                    message,
                    at: Timestamp::now(),
                    told: false,
                },
            };
            list.lock().insert(key, outcome);
            handle.wake.notify_one();
        });
    }

    /// The image for a start; `None` while it is being pulled or after a failure.
    fn image_for(&mut self, c: &Container, attempt: u32, sandbox: &PodSandboxConfig) -> Ready {
        let key = (c.name.clone(), attempt);
        let image = c.image.clone().unwrap_or_default();
        self.begin_pull(c, attempt, sandbox);
        let state = self.pulls.list.lock().get(&key).cloned();
        match state {
            Some(Pull::Done(found)) => {
                self.pulls.backoffs.reset(&image);
                Ready::Yes(found)
            }
            Some(Pull::Running) | None => Ready::Later,
            Some(Pull::Failed { message, at, told }) => {
                let now = Timestamp::now();
                if !told {
                    // The first look at this failure: say it as it is, and start the back-off.
                    let told = Pull::Failed {
                        message: message.clone(),
                        at,
                        told: true,
                    };
                    self.pulls.list.lock().insert(key, told);
                    self.pulls.backoffs.next(&image, at, at);
                    self.problem(&c.name, problem_reason(&message), message);
                    let soon = now.saturating_add(jiff::SignedDuration::from_secs(1)).ok();
                    self.look_at(soon);
                } else if let Some(until) = self.pulls.backoffs.until(&image, at, now) {
                    let delay = self
                        .pulls
                        .backoffs
                        .delay(&image)
                        .map(go_duration)
                        .unwrap_or_default();
                    let known = self.problems.get(&c.name).map(|p| p.reason.clone());
                    if known.as_deref() != Some("ImagePullBackOff") {
                        let text = format!("Back-off pulling image {image:?}");
                        self.agent
                            .events
                            .container(&self.pod, &c.name, Normal, "BackOff", &text);
                        self.agent.events.container(
                            &self.pod,
                            &c.name,
                            Warning,
                            "Failed",
                            "Error: ImagePullBackOff",
                        );
                        debug!(image, delay, "image pull back-off");
                        self.problem(&c.name, "ImagePullBackOff", format!("{text}: {message}"));
                    }
                    self.look_at(Some(until));
                }
                Ready::Failed
            }
        }
    }

    pub(super) fn problem(&mut self, container: &str, reason: &str, message: String) {
        let message = first_bytes(&message, MESSAGE_BYTES);
        self.problems
            .insert(container.to_owned(), Problem::new(reason, message));
    }

    /// Starts what is ready, in order; a container whose image is still coming holds back the ones
    /// after it. True when one was started.
    pub(super) async fn start_all(&mut self, start: Vec<Start>) -> bool {
        let Some(sandbox) = self.observed.sandbox().cloned() else {
            return false;
        };
        if self.handler.is_none() {
            self.handler = Some(sandbox.runtime_handler.clone());
        }
        let config = match self.sandbox_config(sandbox.attempt) {
            Ok(config) => config,
            Err(error) => {
                self.agent
                    .events
                    .warn(&self.pod, "FailedCreatePodSandBox", error.to_string());
                self.retry();
                return false;
            }
        };
        self.begin_pulls(&start, &config);
        let mut started = false;
        for s in start {
            if self.deleted() {
                return true;
            }
            let Some(c) = self.container(s.role) else {
                continue;
            };
            let image = match self.image_for(&c, s.attempt, &config) {
                Ready::Yes(image) => image,
                Ready::Later => break,
                Ready::Failed => continue,
            };
            started |= self.start_one(&s, &c, &image, &sandbox.id, &config).await;
        }
        started
    }

    fn deleted(&self) -> bool {
        self.handle.is_gone()
            || self
                .handle
                .pod
                .borrow()
                .metadata
                .deletion_timestamp
                .is_some()
    }

    fn start_failed(&mut self, c: &Container, reason: &str, message: String) {
        self.agent.events.container(
            &self.pod,
            &c.name,
            Warning,
            "Failed",
            format!("Error: {message}"),
        );
        self.problem(&c.name, reason, message);
        self.retry();
    }

    async fn start_one(
        &mut self,
        s: &Start,
        c: &Container,
        image: &Image,
        sandbox_id: &str,
        sandbox: &PodSandboxConfig,
    ) -> bool {
        let Some(volumes) = self.volumes.clone() else {
            return false;
        };
        let ips = self.pod_ips();
        let handler = self.handler.clone().unwrap_or_default();
        let parts = Parts {
            container: c,
            attempt: s.attempt,
            volumes: &volumes,
            image_ref: &image.id,
            image_user: &image.user,
            pod_ips: &ips,
            target_id: self.target(s.role),
            handler: &handler,
        };
        let mut stage = self.stage_of("create", &c.name);
        if let Err(error) = self.agent.devices.before_start(&self.handle.uid, c).await {
            self.start_failed(c, "CreateContainerConfigError", error.to_string());
            return false;
        }
        let config = match container_config(&self.agent, &self.pod, &parts).await {
            Ok(config) => config,
            Err(error) => {
                self.start_failed(c, "CreateContainerConfigError", error.to_string());
                return false;
            }
        };
        let mut runtime = self.agent.cri.runtime();
        let created = self.created_before(&c.name, sandbox_id, &config).await;
        let events = self.agent.events.clone();
        let is_new = created.is_none();
        let id = match created {
            Some(id) => id,
            None => {
                // CRI-O's monitor makes the log's file, and not the folder that it is in: that is for the kubelet to make.
                let logs = log_directory(&self.agent, &self.pod).join(&c.name);
                if let Err(error) = std::fs::create_dir_all(&logs) {
                    stage.fail();
                    let message = format!("cannot make {}: {error}", logs.display());
                    self.start_failed(c, "CreateContainerError", message);
                    return false;
                }
                let request = CreateContainerRequest {
                    pod_sandbox_id: sandbox_id.to_owned(),
                    config: Some(config),
                    sandbox_config: Some(sandbox.clone()),
                };
                let id = match stage.scope(runtime.create_container(request)).await {
                    Ok(answer) => answer.into_inner().container_id,
                    Err(e) => {
                        stage.fail();
                        self.start_failed(c, "CreateContainerError", e.message().to_owned());
                        return false;
                    }
                };
                events.container(
                    &self.pod,
                    &c.name,
                    Normal,
                    "Created",
                    format!("Created container: {}", c.name),
                );
                id
            }
        };
        drop(stage);
        if let Err(message) = self.network_in_force().await {
            self.agent.events.warn(&self.pod, REASON, message.clone());
            self.problem(&c.name, REASON, message);
            self.retry();
            return false;
        }
        let request = StartContainerRequest {
            container_id: id.clone(),
        };
        crate::probes::expect(&self.handle, c, &id);
        if let Some(failed_at) = s.failed_at
            && is_new
        {
            self.backoffs.next(&s.name, failed_at, Timestamp::now());
        }
        let mut stage = self.stage_of("start", &c.name);
        if let Err(e) = stage.scope(runtime.start_container(request)).await {
            stage.fail();
            drop(stage);
            if !is_cut_off(&e) {
                self.unstartable.insert(id);
            }
            self.start_failed(c, "RunContainerError", e.message().to_owned());
            return false;
        }
        drop(stage);
        if let Some(start) = &self.handle.start {
            start.runs();
        }
        let words = self.runtime_words(self.handler.as_deref().unwrap_or_default());
        events.container(
            &self.pod,
            &c.name,
            Normal,
            "Started",
            format!("Started container {} with runtime {words}", c.name),
        );
        self.problems.remove(&c.name);
        self.actuated(&c.name);
        self.images
            .insert(c.name.clone(), c.image.clone().unwrap_or_default());
        self.pulls.list.lock().remove(&(c.name.clone(), s.attempt));
        self.post_start(c, &id).await;
        true
    }

    /// A container of this configuration that was created and not started: the agent or the runtime was killed in
    /// between. It is started, not another one beside it, since the runtime may be about to start it, and then two would run.
    async fn created_before(
        &self,
        name: &str,
        sandbox_id: &str,
        config: &ContainerConfig,
    ) -> Option<String> {
        let found = self.observed.latest_in(name, sandbox_id)?;
        if found.state != RunState::Created || self.unstartable.contains(&found.id) {
            return None;
        }
        let request = ContainerStatusRequest {
            container_id: found.id.clone(),
            verbose: false,
        };
        let answer = self.agent.cri.runtime().container_status(request).await;
        let status = answer.ok()?.into_inner().status?;
        is_of(&status, config).then_some(status.id)
    }

    /// The container whose PID namespace an ephemeral container joins.
    fn target(&self, role: Role) -> Option<String> {
        let Role::Ephemeral(i) = role else {
            return None;
        };
        let spec = self.pod.spec.as_ref()?;
        let name = spec
            .ephemeral_containers
            .as_ref()?
            .get(i)?
            .target_container_name
            .as_deref()
            .filter(|n| !n.is_empty())?;
        self.observed.latest(name).map(|o| o.id.clone())
    }

    async fn post_start(&mut self, c: &Container, id: &str) {
        let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.post_start.clone()) else {
            return;
        };
        let ips = self.pod_ips();
        let _stage = self.stage_of("postStart hook of", &c.name);
        let run = hooks::run(&self.agent, c, &hook, id, ips.first().map(String::as_str));
        let deleted = wait_for_deletion(Arc::clone(&self.handle));
        let result = tokio::select! {
            result = run => result,
            () = deleted => return,
        };
        if let Err(message) = result {
            warn!(pod = %self.name(), container = %c.name, message, "postStart hook");
            self.agent.events.container(
                &self.pod,
                &c.name,
                Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {message}"),
            );
            self.kill_for_restart(&Kill {
                id: id.to_owned(),
                name: c.name.clone(),
                message: "FailedPostStartHook".to_owned(),
            })
            .await;
            self.problem(&c.name, "PostStartHookError", message);
        }
    }
}

/// Whether a container was created for what would be created now.
fn is_of(status: &ContainerStatus, config: &ContainerConfig) -> bool {
    let hash = |annotations: &HashMap<String, String>| annotations.get(labels::HASH).cloned();
    let limits = |r: Option<&LinuxContainerResources>| {
        r.map(|r| (r.memory_limit_in_bytes, r.cpu_quota, r.cpu_shares))
    };
    let wanted = config.linux.as_ref().and_then(|l| l.resources.as_ref());
    let has = status.resources.as_ref().and_then(|r| r.linux.as_ref());
    hash(&status.annotations) == hash(&config.annotations)
        && (has.is_none() || limits(has) == limits(wanted))
}

/// A call whose outcome nobody knows.
fn is_cut_off(error: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable};
    matches!(error.code(), Unavailable | Cancelled | DeadlineExceeded)
        || error.message().contains("transport error")
}

enum Ready {
    Yes(Image),
    Later,
    Failed,
}

/// Resolves when the pod's deletion is asked for.
pub(super) async fn wait_for_deletion(handle: Arc<crate::pods::PodHandle>) {
    let mut pod = handle.pod.subscribe();
    let wait = pod.wait_for(|p| p.metadata.deletion_timestamp.is_some());
    if wait.await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn pull_policy(c: &Container, image: &str) -> Policy {
    match c.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if crate::images::with_tag(image).ends_with(":latest") => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

const NEVER: &str = "ErrImageNeverPull";

fn problem_reason(message: &str) -> &'static str {
    if message.contains("ErrImageNeverPull") || message.contains("is not present with pull policy")
    {
        NEVER
    } else if message.contains("couldn't parse image")
        || message.contains("invalid reference")
        // berth's own words for it.
        || message.contains("image reference ") && message.contains(" is not valid: ")
    {
        "InvalidImageName"
    } else {
        "ErrImagePull"
    }
}

async fn fetch(
    agent: &crate::agent::Agent,
    pod: &k8s_openapi::api::core::v1::Pod,
    container: &str,
    image: &str,
    handler: &str,
    policy: Policy,
    sandbox: PodSandboxConfig,
) -> Result<Image, String> {
    let events = &agent.events;
    let fail = |message: String| {
        events.container(pod, container, Warning, "Failed", message.clone());
        message
    };
    if policy != Policy::Always {
        let present = agent.images.present(image, handler).await;
        match present {
            Ok(Some(found)) => {
                events.container(
                    pod,
                    container,
                    Normal,
                    "Pulled",
                    format!("Container image {image:?} already present on machine"),
                );
                return Ok(found);
            }
            Ok(None) if policy == Policy::Never => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                events.container(pod, container, Warning, NEVER, message.clone());
                return Err(message);
            }
            Ok(None) => {}
            Err(e) => {
                return Err(fail(format!(
                    "Failed to inspect image {image:?}: {}",
                    rpc_message(&e)
                )));
            }
        }
    }
    events.container(
        pod,
        container,
        Normal,
        "Pulling",
        format!("Pulling image {image:?}"),
    );
    let begun = std::time::Instant::now();
    match agent.images.pull(pod, image, handler, Some(sandbox)).await {
        Ok(found) => {
            let took = begun.elapsed();
            events.container(
                pod,
                container,
                Normal,
                "Pulled",
                format!(
                    "Successfully pulled image {image:?} in {}ms ({}ms including waiting)",
                    took.as_millis(),
                    took.as_millis()
                ),
            );
            agent.node_poke.notify_one();
            Ok(found)
        }
        Err(e) => {
            let message = format!("Failed to pull image {image:?}: {}", rpc_message(&e));
            fail(message.clone());
            fail("Error: ErrImagePull".to_owned());
            Err(message)
        }
    }
}
