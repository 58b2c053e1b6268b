//! The pod's status: computed by the worker, written by a task of its own, the newest only.

mod target;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_core::isolation::{ATTESTED, Isolation};
use berth_lifecycle::{Inputs, Observed, RunState, is_ours};
use berth_supervise::{Brief, Outage, unblock};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::Patch;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::debug;

use self::target::{Target, Written};
use super::Worker;
use super::annotate::RUNTIME;
use super::last_words::{self, LastWords};
use crate::agent::Agent;
use crate::container_config::message_file;
use crate::pod_files::first_bytes;
use crate::pod_spec::containers;
use crate::pods::PodHandle;
use crate::starts::PodStart;
use crate::writes;

/// A conflict is resolved by trying again after this long.
const RETRY: Duration = Duration::from_millis(10);

#[derive(Clone, Default)]
struct Wanted {
    number: u64,
    status: Option<PodStatus>,
    /// The value of the runtime annotation.
    runtime: Option<String>,
    /// How far that runtime keeps the pod apart.
    isolation: Option<Isolation>,
}

/// Handle of the task that writes one pod's status.
pub(super) struct StatusTask {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Drop for StatusTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StatusTask {
    pub(super) fn start(agent: &Agent, pod: &Pod, handle: &PodHandle) -> Self {
        let wanted = watch::Sender::new(Wanted::default());
        let (done, written) = watch::channel(0);
        let ns = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let api = Api::namespaced(agent.config.client.clone(), &ns);
        let first = Written::of(pod);
        let log = StatusLog {
            server: Arc::clone(&agent.status_outage),
            own: Outage::new("the API server does not take a pod's status"),
        };
        let mirror = handle.mirror.as_ref().map(watch::Sender::subscribe);
        let start = handle.start.clone();
        let target = Target::new(name, uid, handle.pod.subscribe(), mirror);
        let work = write(api, target, first, wanted.subscribe(), done, log, start);
        let task = agent.tasks.spawn("pod status", work);
        Self {
            wanted,
            written,
            task,
        }
    }

    fn set(&self, status: &PodStatus) {
        self.wanted.send_modify(|w| {
            w.number += 1;
            w.status = Some(status.clone());
        });
    }

    /// Writes the runtime annotation with the next status: a node may write a pod's status only, and
    /// annotations go with it. The sandbox that this tells of changes the status right after.
    pub(super) fn runtime(&self, words: String, isolation: Option<Isolation>) {
        self.wanted.send_if_modified(|w| {
            w.runtime = Some(words);
            w.isolation = isolation;
            false
        });
    }

    /// Waits until the newest status is written, at most a few seconds.
    pub(super) async fn flush(&mut self) {
        let number = self.wanted.borrow().number;
        let wait = self.written.wait_for(|n| *n >= number);
        let _ = tokio::time::timeout(Duration::from_secs(5), wait).await;
    }
}

/// A status that takes longer to write is not written.
const LIMIT: Duration = Duration::from_secs(30);

/// Failures to write: all pods share those of a server that does not answer.
struct StatusLog {
    server: Arc<Mutex<Outage>>,
    own: Outage,
}

impl StatusLog {
    fn works(&mut self) {
        self.server.lock().works();
        self.own.works();
    }

    /// Gives the pause before the next try; `None` stands for no answer.
    fn failed(&mut self, pod: &str, error: Option<&kube::Error>) -> Duration {
        match error {
            Some(error @ kube::Error::Api(_)) => {
                self.server.lock().works();
                self.own.failed(format_args!("pod {pod}: {}", Brief(error)))
            }
            Some(error) => self.server.lock().failed(Brief(error)),
            None => self.server.lock().failed("no answer in 30 s"),
        }
    }
}

async fn write(
    api: Api<Pod>,
    mut target: Target,
    mut last: Written,
    mut wanted: watch::Receiver<Wanted>,
    done: watch::Sender<u64>,
    mut log: StatusLog,
    start: Option<Arc<PodStart>>,
) {
    while target.changed(&mut wanted, &mut last).await.is_some() {
        let mut conflicted = false;
        if !target.is_there(&mut last) {
            done.send_replace(wanted.borrow().number);
            continue;
        }
        let (name, uid) = (target.name.clone(), target.uid.clone());
        loop {
            let Wanted {
                number,
                status,
                runtime,
                isolation,
            } = wanted.borrow_and_update().clone();
            let Some(status) = status else { break };
            let runtime = runtime.or_else(|| last.runtime.clone());
            if status == last.status && runtime == last.runtime {
                done.send_replace(number);
                break;
            }
            let mut body = patch(&uid, &last.status, &status);
            if runtime != last.runtime {
                body["metadata"]["annotations"] =
                    json!({RUNTIME: runtime, ATTESTED: isolation.map(Isolation::as_str)});
            }
            let (params, body) = (writes::patch(), Patch::Strategic(&body));
            let sent = SystemTime::now();
            let patched = api.patch_status(&name, &params, &body);
            let Ok(result) = tokio::time::timeout(LIMIT, patched).await else {
                let pause = log.failed(&name, None);
                tokio::time::sleep(pause).await;
                continue;
            };
            match result {
                Ok(pod) => {
                    log.works();
                    target.wrote(&pod);
                    if let Some(start) = &start {
                        start.written(&status, sent);
                    }
                    last = Written { status, runtime };
                    done.send_replace(number);
                    break;
                }
                Err(kube::Error::Api(s)) if s.code == 404 => {
                    debug!(pod = %name, "status not written: the pod is gone");
                    done.send_replace(number);
                    break;
                }
                // Somebody else wrote at the same time: try again almost at once.
                Err(kube::Error::Api(s)) if s.code == 409 && !conflicted => {
                    conflicted = true;
                    debug!(pod = %name, error = %s.message, "status not written, will try again");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    let pause = log.failed(&name, Some(&error));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// A strategic merge patch that turns `old` into `new`: atomic lists are sent whole, fields that
/// went away as null, and address lists as replacements.
fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Value {
    let value = |s: &PodStatus| serde_json::to_value(s).unwrap_or(Value::Null);
    let (before, mut after) = (value(old), value(new));
    if let (Some(before), Some(after)) = (before.as_object(), after.as_object_mut()) {
        for key in before.keys() {
            let kept = matches!(key.as_str(), "resourceClaimStatuses" | "nominatedNodeName");
            if !after.contains_key(key) && !kept {
                after.insert(key.clone(), Value::Null);
            }
        }
        // Conditions are merged by type: what one no longer says has to be taken back.
        let conditions = after.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            for key in ["reason", "message"] {
                if condition.get(key).is_none() {
                    condition[key] = Value::Null;
                }
            }
        }
        let types = |s: &PodStatus| -> Vec<String> {
            let conditions = s.conditions.iter().flatten();
            conditions.map(|c| c.type_.clone()).collect()
        };
        let kept = types(new);
        let gone = types(old)
            .into_iter()
            .filter(|name| is_ours(name) && !kept.contains(name));
        let gone = gone.map(|name| json!({"$patch": "delete", "type": name}));
        if let Some(list) = after.get_mut("conditions").and_then(Value::as_array_mut) {
            list.extend(gone);
        }
        for key in ["podIPs", "hostIPs"] {
            if before.get(key).is_some()
                && before.get(key) != after.get(key)
                && let Some(list) = after.get_mut(key).and_then(Value::as_array_mut)
            {
                list.insert(0, json!({"$patch": "replace"}));
            } else if before.get(key) == after.get(key) {
                after.remove(key);
            }
        }
    }
    json!({"metadata": {"uid": uid}, "status": after})
}

impl Worker {
    /// Computes the status from what is known now and hands it to the writer.
    pub(super) fn write_status(&mut self, over: bool) {
        let facts = self.agent.runtime.borrow().clone();
        let probes = self.handle.probes.lock().clone();
        let devices = self.agent.devices.statuses(&self.handle.uid);
        let status = berth_lifecycle::status(Inputs {
            pod: &self.pod,
            previous: &self.previous,
            observed: &self.observed,
            probes: &probes,
            problems: &self.problems,
            failed: self.failed.as_ref(),
            initialized: self.initialized,
            resize: &self.resize,
            devices: &devices,
            recursive_read_only: facts.recursive_read_only(self.handler.as_deref()),
            over,
            host_ips: &self.agent.host_ips,
            runtime_name: &facts.name,
            now: Timestamp::now(),
        });
        if status != self.previous || self.handle.status.read().is_none() {
            self.status.set(&status);
            *self.handle.status.write() = Some(status.clone());
            self.previous = status;
            if self.over() {
                // What it had may be what a resize waits for.
                self.agent.wake_deferred();
            }
        }
    }

    /// The status computed last is a final one.
    pub(super) fn over(&self) -> bool {
        matches!(self.previous.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Reads what newly exited containers left as their message.
    pub(super) async fn last_words(&self, observed: &mut Observed) {
        let limit = last_words::limit(&self.pod);
        for c in &mut observed.containers {
            let known = self
                .observed
                .containers
                .iter()
                .any(|k| k.id == c.id && k.state == RunState::Exited);
            if known || c.state != RunState::Exited {
                continue;
            }
            let policy = containers(&self.pod)
                .find(|s| s.name == c.name)
                .and_then(|s| s.termination_message_policy.as_deref());
            let wants_log = policy == Some("FallbackToLogsOnError") && c.exit_code != 0;
            let words = LastWords {
                pod_dir: self.agent.pod_dir(&self.pod),
                file: message_file(Path::new(""), &c.name, c.attempt),
                log: wants_log.then(|| {
                    crate::sandbox_config::log_directory(&self.agent, &self.pod)
                        .join(&c.name)
                        .join(format!("{}.log", c.attempt))
                }),
                limit,
            };
            let text = unblock(move || words.read()).await;
            if !text.is_empty() {
                c.message = text;
            }
            c.message = first_bytes(&c.message, limit).to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodIP;

    #[test]
    fn what_went_away_is_null_and_addresses_are_replaced() {
        let ips = |ip: &str| Some(vec![PodIP { ip: ip.into() }]);
        let old = PodStatus {
            reason: Some("X".into()),
            pod_ips: ips("10.0.0.1"),
            ..PodStatus::default()
        };
        let new = PodStatus {
            phase: Some("Running".into()),
            pod_ips: ips("10.0.0.2"),
            ..PodStatus::default()
        };
        assert_eq!(
            patch("u", &old, &new),
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null,
                "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
            }})
        );
        assert_eq!(
            patch("u", &PodStatus::default(), &new)["status"]["podIPs"],
            json!([{"ip": "10.0.0.2"}])
        );
    }
}
