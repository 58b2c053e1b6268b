//! Events: recorded without waiting, written by one task, repetitions counted up.

use berth_core::event::{EventCorrelator, EventType, EventWrite};
use berth_supervise::{Brief, Outage, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference, PersistentVolumeClaim, Pod};
use kube::api::Patch;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::pod_files::first_bytes;
use crate::writes;

/// More than this many unwritten events are dropped: a broken API server must not stop pods.
const QUEUE: usize = 1024;

/// A message is no longer than this: errors tell of what is in a spec, and that can be as long as an object may be.
pub(crate) const MESSAGE_BYTES: usize = 4096;

struct Record {
    about: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Handle of the recorder task.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Record>,
}

impl Recorder {
    /// Starts the writer; when the tasks are to stop it writes what is queued and ends.
    pub(crate) fn start(client: Client, node_name: String, tasks: &Tasks) -> Self {
        let (queue, records) = mpsc::channel(QUEUE);
        let work = write(client, node_name, records, tasks.stop_token());
        tasks.spawn_essential("events", work);
        Self { queue }
    }

    fn send(&self, about: ObjectReference, type_: EventType, reason: &str, message: String) {
        let record = Record {
            about,
            type_,
            reason: reason.to_owned(),
            message: first_bytes(&message, MESSAGE_BYTES).to_owned(),
            at: Timestamp::now(),
        };
        if self.queue.try_send(record).is_err() {
            debug!(reason, "event dropped: the queue is full");
        }
    }

    pub(crate) fn normal(&self, pod: &Pod, reason: &'static str, message: impl Into<String>) {
        self.send(
            pod_ref(pod, None),
            EventType::Normal,
            reason,
            message.into(),
        );
    }

    pub(crate) fn warn(&self, pod: &Pod, reason: &'static str, message: impl Into<String>) {
        self.send(
            pod_ref(pod, None),
            EventType::Warning,
            reason,
            message.into(),
        );
    }

    /// For reasons that are computed, such as `OutOfcpu`.
    pub(crate) fn send_dynamic(&self, pod: &Pod, type_: EventType, reason: &str, message: String) {
        self.send(pod_ref(pod, None), type_, reason, message);
    }

    pub(crate) fn container(
        &self,
        pod: &Pod,
        container: &str,
        type_: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.send(pod_ref(pod, Some(container)), type_, reason, message.into());
    }

    /// Something is wrong with the volume of a claim.
    pub(crate) fn claim(
        &self,
        claim: &PersistentVolumeClaim,
        reason: &'static str,
        message: String,
    ) {
        let meta = &claim.metadata;
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectReference::default()
        };
        self.send(about, EventType::Warning, reason, message);
    }

    pub(crate) fn node(&self, node: &str, type_: EventType, reason: &'static str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            // The stock kubelet names the node in place of its uid; kubectl describe looks for that.
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        self.send(about, type_, reason, message);
    }
}

fn field_path(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let list = if spec.containers.iter().any(|c| c.name == container) {
        "containers"
    } else if spec
        .init_containers
        .iter()
        .flatten()
        .any(|c| c.name == container)
    {
        "initContainers"
    } else {
        "ephemeralContainers"
    };
    Some(format!("spec.{list}{{{container}}}"))
}

fn pod_ref(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let meta = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: container.and_then(|c| field_path(pod, c)),
    }
}

async fn next(
    records: &mut mpsc::Receiver<Record>,
    shutdown: &CancellationToken,
) -> Option<Record> {
    tokio::select! {
        biased;
        record = records.recv() => record,
        () = shutdown.cancelled() => records.try_recv().ok(),
    }
}

async fn write(
    client: Client,
    node_name: String,
    mut records: mpsc::Receiver<Record>,
    shutdown: CancellationToken,
) {
    let mut correlator = EventCorrelator::new("kubelet", Some(&node_name));
    let mut outage = Outage::new("cannot write events");
    while let Some(r) = next(&mut records, &shutdown).await {
        let write = correlator.record(&r.about, r.type_, &r.reason, &r.message, r.at);
        let result = match write {
            EventWrite::Create(event) => {
                let ns = event.metadata.namespace.clone().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(client.clone(), &ns);
                api.create(&writes::create(), &event).await
            }
            EventWrite::Patch {
                namespace,
                name,
                body,
            } => {
                let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
                api.patch(&name, &writes::patch(), &Patch::Merge(&body))
                    .await
            }
        };
        match result {
            Ok(_) => outage.works(),
            // The server said no to this one; others may be welcome.
            Err(kube::Error::Api(status)) => {
                debug!(error = %status.message, reason = %r.reason, "event not written");
            }
            // The event is lost; the pause keeps the others from going the same way.
            Err(error) => {
                let pause = outage.failed(Brief(&error));
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}
