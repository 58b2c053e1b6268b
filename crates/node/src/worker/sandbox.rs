//! Admission to the node, the class's handler, volumes, and the sandbox.

use std::sync::Arc;
use std::time::Duration;

use berth_core::event::EventType;
use berth_cri_api::v1::{PodSandboxConfig, RunPodSandboxRequest};
use berth_lifecycle::resize::POD;
use berth_lifecycle::{Problem, Start, admit, is_terminal, ports};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use tracing::{debug, warn};

use super::Worker;
use crate::UnsupportedHandler;
use crate::amount;
use crate::classes::Class;
use crate::cri::rpc_message;
use crate::devices::allocate::AllocateError;
use crate::huge_pages::{self, Pool};
use crate::isolation;
use crate::own_dirs;
use crate::pods::PodHandle;
use crate::sandbox_config::{SandboxConfigError, log_directory, sandbox_config};
use crate::users;
use crate::volumes::{self, MountError, Mounted};

/// How long a pod waits for the devices of pods that are ending, and how often it looks.
const DEVICES: Duration = Duration::from_secs(60);
const DEVICES_RETRY: Duration = Duration::from_millis(200);

const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Worker {
    /// Admits the pod to this node, once; a pod that already runs here is taken as it is.
    pub(super) async fn accept(&mut self) -> bool {
        if self.accepted
            || self.previous.start_time.is_some()
            || !self.observed.sandboxes.is_empty()
        {
            self.accepted = true;
            return true;
        }
        let _stage = self.stage("admit");
        let mut verdict = self.admit();
        if verdict.as_ref().is_err_and(|p| p.reason == "NodeAffinity") {
            // The scheduler may know a label of the Node that this agent has not seen yet.
            let api: Api<Node> = Api::all(self.agent.config.client.clone());
            if let Ok(node) = api.get(&self.agent.config.node_name).await {
                self.agent.node.send_replace(Some(Arc::new(node)));
                verdict = self.admit();
            }
        }
        if verdict.is_ok() {
            verdict = self.allocate_devices().await;
        }
        match verdict {
            Ok(()) => {
                self.accepted = true;
                true
            }
            Err(problem) => {
                let message = problem.message.clone();
                self.agent.events.send_dynamic(
                    &self.pod,
                    EventType::Warning,
                    &problem.reason,
                    message,
                );
                self.fail(
                    &problem.reason,
                    format!("Pod was rejected: {}", problem.message),
                );
                false
            }
        }
    }

    /// The devices of plugins that the pod's containers ask for. A deletion does not wait for a plugin.
    async fn allocate_devices(&self) -> Result<(), Problem> {
        let deleted = super::start::wait_for_deletion(Arc::clone(&self.handle));
        tokio::select! {
            allocated = self.allocate_in_time() => allocated.map_err(|error| {
                let message = format!("Allocate failed due to {error}, which is unexpected");
                Problem::new("UnexpectedAdmissionError", message)
            }),
            // What was allocated until here goes with the pod.
            () = deleted => Ok(()),
        }
    }

    /// The scheduler counts what a pod held as free once the pod is said to be over, or is evicted, and that may be before
    /// its last container has ended.
    async fn allocate_in_time(&self) -> Result<(), AllocateError> {
        let begun = tokio::time::Instant::now();
        loop {
            let allocated = self.agent.devices.allocate(&self.pod).await;
            let short = matches!(&allocated, Err(error) if error.is_short());
            if !short || begun.elapsed() > DEVICES || !self.some_are_coming_back() {
                return allocated;
            }
            tokio::time::sleep(DEVICES_RETRY).await;
        }
    }

    /// A pod that is ending holds devices.
    fn some_are_coming_back(&self) -> bool {
        let ending = |h: &PodHandle| {
            let pod = h.current();
            h.is_gone()
                || h.evicted.lock().is_some()
                || pod.metadata.deletion_timestamp.is_some()
                || is_terminal(&pod)
        };
        let others = self.agent.handles();
        let mut others = others.iter().filter(|h| h.uid != self.handle.uid);
        others.any(|h| ending(h) && !self.agent.devices.held(&h.uid).is_empty())
    }

    fn admit(&self) -> Result<(), Problem> {
        let node = self.agent.node.borrow().clone();
        let labels = match node {
            Some(node) => node.metadata.labels.clone().unwrap_or_default(),
            // A static pod runs though the API has not been reached yet.
            None => crate::registration::own_labels(&self.agent),
        };
        if let Some(spec) = &self.pod.spec {
            amount::check_pod(spec)
                .map_err(|error| Problem::new("InvalidResources", error.to_string()))?;
        }
        let allowed = &self.agent.config.allowed_unsafe_sysctls;
        if let Some(problem) = crate::sysctls::forbidden(&self.pod, allowed) {
            return Err(problem);
        }
        if self.agent.pressure.borrow().disk && !crate::eviction::is_critical(&self.pod) {
            let message = "The node had condition: [DiskPressure]. ";
            return Err(Problem::new("Evicted", message));
        }
        let others = self.others();
        let pools = huge_pages::pools().into_iter().map(Pool::resource);
        let pools: Vec<String> = pools.collect();
        let mut names = RESOURCES.to_vec();
        names.extend(pools.iter().map(String::as_str));
        let mut room = self.rooms(&self.pod, &names, &others);
        room.push(admit::Room {
            name: "pods".to_owned(),
            requested: 1,
            used: i64::try_from(others.len()).unwrap_or(i64::MAX),
            capacity: i64::from(self.agent.config.max_pods),
        });
        let can = admit::Abilities {
            strict_groups: self.agent.runtime.borrow().supplemental_groups_policy == Some(true),
            user_namespaces: self.agent.runtime.borrow().user_namespaces(None),
        };
        admit::admit(&self.pod, &labels, &room, can)?;
        ports::admit_ports(&self.pod, &others)
    }

    /// The other pods that have room on this node.
    pub(super) fn others(&self) -> Vec<Pod> {
        self.agent
            .handles()
            .into_iter()
            .filter(|h| h.uid != self.handle.uid)
            .map(|h| h.current())
            .filter(|p| {
                !is_terminal(p) && p.status.as_ref().is_some_and(|s| s.start_time.is_some())
            })
            .collect()
    }

    /// Of each resource: what `pod` asks for, what the others have, what there is.
    pub(super) fn rooms(&self, pod: &Pod, names: &[&str], others: &[Pod]) -> Vec<admit::Room> {
        let overhead = self.agent.config.gates.pod_overhead;
        let allocatable = crate::registration::allocatable(&self.agent);
        let request = |pod: &Pod, name: &str| {
            let spec = pod.spec.as_ref();
            spec.map_or(0, |s| amount::pod_request(s, name, overhead))
        };
        names
            .iter()
            .map(|name| admit::Room {
                name: (*name).to_owned(),
                requested: request(pod, name),
                used: others.iter().map(|p| request(p, name)).sum(),
                capacity: amount::units(Some(&allocatable), name),
            })
            .collect()
    }

    /// The pod has failed for good.
    pub(super) fn fail(&mut self, reason: &str, message: String) {
        debug!(pod = %self.name(), reason, message, "pod failed");
        self.failed = Some(Problem::new(reason, message));
    }

    /// Finds the handler of the pod's class. `None`: the pod has failed, or waits for a retry.
    async fn find_handler(&mut self) -> Option<String> {
        let class = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.runtime_class_name.clone())
            .filter(|name| !name.is_empty() && self.agent.config.gates.runtime_class);
        let Some(class) = class else {
            let handler = self.isolated_enough(None)?;
            return self.with_users(handler);
        };
        let node = self.agent.config.node_name.clone();
        let found = match self.agent.classes.find(&class).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let message = format!(
                    "RuntimeClass {class:?} does not exist, so node {node:?} cannot run the pod"
                );
                self.refuse("RuntimeClassNotFound", message);
                return None;
            }
            Err(error) => {
                warn!(pod = %self.name(), class, %error, "RuntimeClass cannot be read");
                self.retry();
                return None;
            }
        };
        let handler = &found.handler;
        if self.agent.runtime.borrow().has_handler(handler) == Some(false) {
            self.unsupported(&class, handler);
            return None;
        }
        let handler = self.isolated_enough(Some(&found))?;
        self.with_users(handler)
    }

    /// The handler, unless it keeps the pod less apart than the pod demands: a scheduler that knows nothing of that, whoever
    /// binds pods, and another configuration of this node's runtime than it had are all stopped here.
    fn isolated_enough(&mut self, class: Option<&Class>) -> Option<String> {
        let facts = self.agent.runtime.borrow().clone();
        let node = &self.agent.config.node_name;
        let Some(message) = isolation::shortfall(&self.pod, class, &facts, node) else {
            return Some(class.map(|class| class.handler.clone()).unwrap_or_default());
        };
        if facts.is_ready() {
            self.refuse("InsufficientIsolation", message);
        } else {
            // The runtime has not said what its handlers are.
            self.retry();
        }
        None
    }

    /// Refuses a handler that has no user namespaces for a pod that wants one.
    fn with_users(&mut self, handler: String) -> Option<String> {
        let can = self.agent.runtime.borrow().user_namespaces(Some(&handler));
        if can || !users::wants_own(&self.pod) {
            return Some(handler);
        }
        let (name, _) = self.agent.runtime.borrow().describe(&handler);
        let node = &self.agent.config.node_name;
        let message = format!(
            "the pod has hostUsers: false, and runtime handler {name:?} of node {node:?} does not support user namespaces"
        );
        self.refuse("UserNamespacesNotSupported", message);
        None
    }

    fn unsupported(&mut self, class: &str, handler: &str) {
        let facts = self.agent.runtime.borrow().clone();
        let node = &self.agent.config.node_name;
        let have: Vec<&str> = facts
            .handlers
            .iter()
            .map(|h| h.name.as_str())
            .filter(|n| !n.is_empty())
            .collect();
        let mut message = format!(
            "RuntimeClass {class:?} needs runtime handler {handler:?}, which the runtime of node {node:?} does not have"
        );
        if let Some(why) = facts.why_broken(handler) {
            message = format!(
                "RuntimeClass {class:?} needs runtime handler {handler:?}, which the runtime of node {node:?} cannot use: {why}"
            );
        } else if !have.is_empty() {
            message.push_str(&format!(" (it has: {})", have.join(", ")));
        }
        self.refuse("UnsupportedRuntimeHandler", message);
    }

    /// Fails the pod, or lets it wait where the configuration says so.
    fn refuse(&mut self, reason: &'static str, message: String) {
        self.agent.events.warn(&self.pod, reason, message.clone());
        match self.agent.config.unsupported_handler {
            UnsupportedHandler::Fail => self.fail(reason, message),
            UnsupportedHandler::Retry => self.retry(),
        }
    }

    /// Makes the volumes if they are not there yet.
    pub(super) async fn mount_volumes(&mut self) -> bool {
        if self.volumes.is_some() {
            return true;
        }
        let ips = self.pod_ips();
        let mut stage = self.stage("volumes");
        let result = volumes::mount(&self.agent, &self.pod, &ips).await;
        if result.is_err() {
            stage.fail();
        }
        drop(stage);
        self.take_volumes(result)
    }

    fn take_volumes(&mut self, result: Result<Mounted, MountError>) -> bool {
        match result {
            Ok(mounted) => {
                self.volumes = Some(mounted);
                self.refreshed = jiff::Timestamp::now();
                true
            }
            Err(error) => {
                self.agent
                    .events
                    .warn(&self.pod, "FailedMount", error.to_string());
                self.retry();
                false
            }
        }
    }

    /// The config of the current or a new sandbox.
    pub(super) fn sandbox_config(
        &self,
        attempt: u32,
    ) -> Result<PodSandboxConfig, SandboxConfigError> {
        let systemd = self.agent.runtime.borrow().systemd_cgroups;
        let parent = self.agent.cgroups.parent(&self.pod, systemd);
        sandbox_config(&self.agent, &self.pod, attempt, parent)
    }

    /// Runs a new sandbox; image pulls begin meanwhile.
    pub(super) async fn run_sandbox(&mut self, attempt: u32, start: &[Start]) -> bool {
        let Some(handler) = self.find_handler().await else {
            return false;
        };
        if let Err(error) = self.agent.users.assign(&self.pod) {
            self.sandbox_failed(format!("no user namespace for the pod: {error}"));
            return false;
        }
        let config = match self.sandbox_config(attempt) {
            Ok(config) => config,
            Err(error) => {
                self.sandbox_failed(error.to_string());
                return false;
            }
        };
        self.handler = Some(handler.clone());
        if let Some(start) = &self.handle.start {
            start.set_handler(&handler);
        }
        self.begin_pulls(start, &config);
        let systemd = self.agent.runtime.borrow().systemd_cgroups;
        let preparing = self.stage("cgroup and directories");
        // First: of a pod that is deleted while no agent runs, the next one knows by its directory what it has.
        let dir = self.agent.pod_dir(&self.pod);
        if let Err(error) = own_dirs::make(&dir) {
            drop(preparing);
            self.sandbox_failed(format!("cannot make {}: {error}", dir.display()));
            return false;
        }
        if let Err(error) = self.agent.cgroups.ensure(&self.pod, systemd).await {
            drop(preparing);
            self.sandbox_failed(format!("failed to create the pod's cgroup: {error}"));
            return false;
        }
        self.cgroup = self.agent.cgroups.limits(&self.pod);
        self.actuated(POD);
        let logs = log_directory(&self.agent, &self.pod);
        if let Err(error) = std::fs::create_dir_all(&logs) {
            self.sandbox_failed(format!("cannot make {}: {error}", logs.display()));
            return false;
        }
        if attempt > 0 {
            self.agent.events.normal(
                &self.pod,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
        }
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.clone(),
        };
        // The volumes are needed only by the containers: they are made beside the sandbox.
        let ips = self.pod_ips();
        let have = self.volumes.is_some();
        let mut runtime = self.agent.cri.runtime();
        drop(preparing);
        let mut stage = self.stage("sandbox");
        let (mounted, sandbox) = tokio::join!(
            async {
                if have {
                    return None;
                }
                let mut stage = self.stage("volumes");
                let mounted = volumes::mount(&self.agent, &self.pod, &ips).await;
                if mounted.is_err() {
                    stage.fail();
                }
                Some(mounted)
            },
            stage.scope(runtime.run_pod_sandbox(request))
        );
        if sandbox.is_err() {
            stage.fail();
        }
        drop(stage);
        let mounted = mounted.is_none_or(|result| self.take_volumes(result));
        match sandbox {
            Ok(_) => {
                let isolation = self.agent.runtime.borrow().describe(&handler).1.isolation;
                self.status.runtime(self.runtime_words(&handler), isolation);
                mounted
            }
            Err(e) => {
                let class = self
                    .pod
                    .spec
                    .as_ref()
                    .and_then(|s| s.runtime_class_name.clone());
                // A runtime that does not report handlers says it only now.
                let unknown = !handler.is_empty() && names_no_runtime(e.message());
                if let (Some(class), true) = (class, unknown) {
                    self.unsupported(&class, &handler);
                } else {
                    let message = format!("Failed to create pod sandbox: {}", rpc_message(&e));
                    self.sandbox_failed(message);
                }
                false
            }
        }
    }

    fn sandbox_failed(&mut self, message: String) {
        self.agent
            .events
            .warn(&self.pod, "FailedCreatePodSandBox", message);
        self.retry();
    }
}

/// What containerd and CRI-O answer for a handler that they do not have.
fn names_no_runtime(message: &str) -> bool {
    message.contains("no runtime for")
        || message.contains("failed to find runtime handler")
        || message.contains("failed to get sandbox runtime")
}
