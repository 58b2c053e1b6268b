//! In-place resize: grants what the spec asks for when the node has it, and gives it to running containers.

use berth_core::event::EventType;
use berth_cri_api::v1::{
    ContainerStatsRequest, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use berth_lifecycle::resize::{self, How, POD};
use berth_lifecycle::{Problem, RunState, swap};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use tonic::Code;
use tracing::warn;

use super::Worker;
use crate::allocation::{self, Allocation};
use crate::amount;
use crate::container_config::{container_resources, resources_of_pod};
use crate::cri::rpc_message;
use crate::pod_spec::containers;

/// The resources of a pod as a whole.
struct Whole<'a> {
    allocated: Option<&'a ResourceRequirements>,
    actuated: Option<&'a ResourceRequirements>,
}

impl<'a> Whole<'a> {
    /// Where nobody knows what the pod's cgroup was given, it is what was granted: that is given again anyway.
    fn of(record: &'a Allocation) -> Self {
        let allocated = record.allocated.get(POD);
        let actuated = record.actuated.get(POD).or(allocated);
        Self {
            allocated,
            actuated,
        }
    }

    fn changes(&self) -> bool {
        let both = self.allocated.zip(self.actuated);
        both.is_some_and(|(a, b)| !resize::same(a, b))
    }
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];

impl Worker {
    /// Brings what the pod has nearer to what its spec asks for.
    pub(super) async fn resize(&mut self) {
        self.remember();
        // What is asked for is judged by what was granted, not by what the spec says by now.
        self.pod = self.handle.granted();
        self.grant();
        self.pod = self.handle.granted();
        let before = self.resize.in_progress.clone();
        match self.actuate().await {
            Err(message) => {
                let known = before.is_some_and(|p| p.message == message);
                if !known {
                    let text = format!("Pod resize failed: {message}");
                    self.event(EventType::Warning, "ResizeError", &text);
                }
                self.resize.in_progress = Some(Problem::new("Error", message));
                self.retry();
            }
            Ok(changed) if self.resize.in_progress.is_none() && (changed || before.is_some()) => {
                self.event(EventType::Normal, "ResizeCompleted", "Pod resize completed");
                // What it gave up may be what another one waits for.
                self.agent.wake_deferred();
            }
            Ok(_) => {}
        }
        self.show();
    }

    fn event(&self, kind: EventType, reason: &str, message: &str) {
        self.agent
            .events
            .send_dynamic(&self.pod, kind, reason, message.to_owned());
    }

    /// Copies the record to what the status says.
    fn show(&mut self) {
        if let Some(record) = &*self.handle.allocation.lock() {
            self.resize.allocated.clone_from(&record.allocated);
            self.resize.actuated.clone_from(&record.actuated);
        }
    }

    /// Takes the record of an earlier agent, or begins one: a pod that comes is granted what it asks for.
    fn remember(&mut self) {
        if self.handle.allocation.lock().is_some() {
            return;
        }
        let dir = self.agent.pod_dir(&self.pod);
        let found = allocation::read(&dir).unwrap_or_else(|error| {
            warn!(pod = %self.name(), %error, "the record of the pod's resources cannot be read; what its status says is taken instead");
            None
        });
        let mut record = found.unwrap_or_else(|| Allocation {
            allocated: resize::granted_by_status(&self.pod),
            actuated: resize::Resources::new(),
        });
        // An older agent noted nothing of the pod as a whole, and changed nothing of it.
        let desired = || resize::desired(&self.pod).remove(POD).unwrap_or_default();
        record
            .allocated
            .entry(POD.to_owned())
            .or_insert_with(desired);
        self.save(record);
    }

    fn save(&mut self, record: Allocation) {
        let written = allocation::write(&self.agent.pod_dir(&self.pod), &record);
        if let Err(error) = written {
            warn!(pod = %self.name(), %error, "the record of the pod's resources cannot be written");
        }
        *self.handle.allocation.lock() = Some(record);
    }

    /// Notes what the runtime was given for one container, or the pod's cgroup for [`POD`].
    pub(super) fn actuated(&mut self, name: &str) {
        let record = self.handle.allocation.lock().clone();
        let Some(mut record) = record else { return };
        let Some(allocated) = record.allocated.get(name) else {
            return;
        };
        if record.actuated.get(name) != Some(allocated) {
            record.actuated.insert(name.to_owned(), allocated.clone());
            self.save(record);
            self.show();
        }
    }

    /// Grants what the spec asks for by now, if the node has it.
    fn grant(&mut self) {
        let wanted = self.handle.pod.borrow().clone();
        let desired = resize::desired(&wanted);
        // Two pods must not be granted the same room.
        let agent = std::sync::Arc::clone(&self.agent);
        let _one_at_a_time = agent.granting.lock();
        let Some(record) = self.handle.allocation.lock().clone() else {
            return;
        };
        if resize::all_same(&desired, &record.allocated) {
            self.set_pending(None);
            return;
        }
        let verdict = match wanted.spec.as_ref().map(amount::check_pod) {
            Some(Err(error)) => Err(Problem::new("Infeasible", error.to_string())),
            Some(Ok(())) | None
                if self.agent.swap.is_used() && swap::is_resized(&wanted, &record.allocated) =>
            {
                let message = "In-place resize of containers with swap is not supported.";
                Err(Problem::new("Infeasible", message))
            }
            Some(Ok(())) | None => {
                let others = self.others();
                let granted = self.rooms(&self.pod, &RESOURCES, &others);
                let wanted = self.rooms(&wanted, &RESOURCES, &others);
                let granted = granted.into_iter().map(|room| room.requested);
                let rooms: Vec<_> = wanted.into_iter().zip(granted).collect();
                resize::judge(&rooms)
            }
        };
        if let Err(problem) = verdict {
            self.set_pending(Some(problem));
            return;
        }
        let actuated = record.actuated;
        self.save(Allocation {
            allocated: desired,
            actuated,
        });
        self.set_pending(None);
        self.event(EventType::Normal, "ResizeStarted", "Pod resize started");
    }

    fn set_pending(&mut self, problem: Option<Problem>) {
        let deferred = problem.as_ref().is_some_and(|p| p.reason == "Deferred");
        self.handle
            .deferred
            .store(deferred, std::sync::atomic::Ordering::SeqCst);
        if let Some(problem) = problem.as_ref().filter(|_| self.resize.pending != problem) {
            let reason = format!("Resize{}", problem.reason);
            let message = format!("Pod resize {}: {}", problem.reason, problem.message);
            self.event(EventType::Warning, &reason, &message);
        }
        if deferred {
            let again = jiff::SignedDuration::from_secs(60);
            self.look_at(jiff::Timestamp::now().saturating_add(again).ok());
        }
        self.resize.pending = problem;
    }

    /// Gives running containers what is granted. A container that has to be started again is left to the plan, and the
    /// pod's own limits fall only when all containers have theirs. True when a resize was carried on.
    async fn actuate(&mut self) -> Result<bool, String> {
        self.restarts.clear();
        let Some(record) = self.handle.allocation.lock().clone() else {
            return Ok(false);
        };
        let Some(sandbox) = self.observed.sandbox().filter(|s| s.ready).cloned() else {
            self.resize.in_progress = None;
            return Ok(false);
        };
        let of_pod = Whole::of(&record);
        let mut in_place = Vec::new();
        for c in containers(&self.pod) {
            let (Some(allocated), Some(seen)) =
                (record.allocated.get(&c.name), self.observed.latest(&c.name))
            else {
                continue;
            };
            if seen.state != RunState::Running {
                continue;
            }
            let actuated = record.actuated.get(&c.name);
            let actuated = actuated.map(|r| resize::with_limits_of_pod(r, of_pod.actuated));
            let allocated = resize::with_limits_of_pod(allocated, of_pod.allocated);
            match resize::how(c, actuated.as_ref(), &allocated) {
                How::Done => {}
                How::InPlace => in_place.push((c.clone(), seen.id.clone())),
                How::Restart => {
                    let message = format!("Container {} resize requires restart", c.name);
                    self.restarts.insert(c.name.clone(), message);
                }
            }
        }
        let pod = self.pod.clone();
        let before = resize::with_resources(&pod, &record.actuated).into_owned();
        let systemd = self.agent.runtime.borrow().systemd_cgroups;
        let cgroups = self.agent.cgroups.clone();
        let settled = cgroups.is_settled(&pod, self.cgroup.as_ref());
        let of_pod_changes = of_pod.changes();
        if in_place.is_empty() && self.restarts.is_empty() && settled && !of_pod_changes {
            self.resize.in_progress = None;
            return Ok(false);
        }
        // How far an agent before this one got is not known; that is made good without a word.
        let changed = self.cgroup.is_some();
        if changed && self.resize.in_progress.is_none() {
            self.resize.in_progress = Some(Problem::default());
            self.show();
            self.write_status(false);
        }
        self.fits_in_memory(&before, &pod, &in_place).await?;
        let failed =
            |error: crate::cgroups::CgroupError| format!("cannot change the pod's cgroup: {error}");
        cgroups
            .raise(&before, &pod, systemd)
            .await
            .map_err(failed)?;
        let any = !in_place.is_empty();
        for (c, id) in in_place {
            let request = UpdateContainerResourcesRequest {
                container_id: id,
                linux: Some(container_resources(&self.agent, &pod, &c)),
                ..UpdateContainerResourcesRequest::default()
            };
            let answer = self
                .agent
                .cri
                .runtime()
                .update_container_resources(request)
                .await;
            answer.map_err(|e| {
                format!(
                    "cannot change the resources of container {}: {}",
                    c.name,
                    rpc_message(&e)
                )
            })?;
            self.actuated(&c.name);
        }
        if any || of_pod_changes {
            self.tell_sandbox(&sandbox.id, &pod).await?;
        }
        if self.restarts.is_empty() {
            cgroups.ensure(&pod, systemd).await.map_err(failed)?;
            self.cgroup = cgroups.limits(&pod);
            self.actuated(POD);
            self.resize.in_progress = None;
        }
        Ok(changed)
    }

    /// The sandbox's own share (a VM's size, gVisor's limits) follows. Runtimes without that call have nothing to change.
    async fn tell_sandbox(&self, id: &str, pod: &Pod) -> Result<(), String> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let (resources, overhead) = resources_of_pod(&self.agent, spec);
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            overhead,
            resources: Some(resources),
        };
        match self
            .agent
            .cri
            .runtime()
            .update_pod_sandbox_resources(request)
            .await
        {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Code::Unimplemented => Ok(()),
            Err(e) => Err(format!(
                "cannot change the resources of the pod's sandbox: {}",
                rpc_message(&e)
            )),
        }
    }

    /// A memory limit below what is in use would kill the container, not shrink it.
    async fn fits_in_memory(
        &self,
        before: &Pod,
        after: &Pod,
        changed: &[(Container, String)],
    ) -> Result<(), String> {
        let limit = |pod: &Pod, name: &str| {
            let c = containers(pod).find(|c| c.name == name);
            c.map_or(0, |c| amount::container_limit(pod, c, "memory"))
        };
        let shrinks = |old: i64, new: i64| new > 0 && (old == 0 || new < old);
        for (c, id) in changed {
            let (old, new) = (limit(before, &c.name), limit(after, &c.name));
            if !shrinks(old, new) {
                continue;
            }
            let request = ContainerStatsRequest {
                container_id: id.clone(),
            };
            let stats = self.agent.cri.runtime().container_stats(request).await;
            let stats = stats.map_err(|e| {
                format!(
                    "cannot see the memory that container {} uses: {}",
                    c.name,
                    rpc_message(&e)
                )
            })?;
            let memory = stats.into_inner().stats.and_then(|s| s.memory);
            let used = memory
                .and_then(|m| m.usage_bytes.or(m.working_set_bytes))
                .map_or(0, |bytes| i64::try_from(bytes.value).unwrap_or(i64::MAX));
            if used > new {
                return Err(format!(
                    "attempting to set container {:?} memory limit ({new}) below current usage ({used})",
                    c.name
                ));
            }
        }
        let overhead = self.agent.config.gates.pod_overhead;
        let of_pod = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|s| amount::pod_limit(s, "memory", overhead))
                .unwrap_or(0)
        };
        let new = of_pod(after);
        if shrinks(of_pod(before), new) {
            let systemd = self.agent.runtime.borrow().systemd_cgroups;
            let used = self.agent.cgroups.memory_usage(after, systemd).unwrap_or(0);
            if used > new {
                return Err(format!(
                    "attempting to set pod memory limit ({new}) below current usage ({used})"
                ));
            }
        }
        Ok(())
    }
}
