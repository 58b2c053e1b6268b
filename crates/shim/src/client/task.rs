//! Calls of the task service, under the name that the shim knows it by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use berth_trace::{Part, wire};
use containerd_shim_protos::api;
use containerd_shim_protos::types::task::Status as WireStatus;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, UnknownValueRef};
use ttrpc::r#async::Client;

use super::bootstrap::Bootstrap;
use super::{Exit, OWN_OPTIONS, RuntimeOptions, ShimError, State, Status};

const V2: &str = "containerd.task.v2.Task";
const V3: &str = "containerd.task.v3.Task";

pub(super) struct TaskClient {
    client: Client,
    v3: AtomicBool,
}

impl std::fmt::Debug for TaskClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskClient")
            .field("v3", &self.v3)
            .finish_non_exhaustive()
    }
}

impl TaskClient {
    pub(super) async fn connect(bootstrap: &Bootstrap) -> Result<Self, ShimError> {
        let address = &bootstrap.address;
        let full = if address.contains("://") {
            address.clone()
        } else {
            format!("unix://{address}")
        };
        let client = Client::connect(&full)
            .await
            .map_err(|source| ShimError::Connect {
                address: full,
                source,
            })?;
        Ok(Self {
            client,
            v3: AtomicBool::new(bootstrap.version >= 3),
        })
    }

    /// One call; a timeout of zero waits forever.
    pub(super) async fn call<T: Message>(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<T, ShimError> {
        let payload = self.request(method, request, timeout, &[]).await?;
        T::parse_from_bytes(&payload).map_err(|source| ShimError::Decode { method, source })
    }

    /// One call that is a stage of a pod's start. The shim is told the span, and asked for what it does meanwhile.
    pub(super) async fn call_traced<T: Message>(
        &self,
        stage: &'static str,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<T, ShimError> {
        berth_trace::of_call(stage, async {
            let Some(current) = berth_trace::current() else {
                return self.call(method, request, timeout).await;
            };
            let context = current.context().map(|context| context.to_string());
            let metadata: Vec<_> = context
                .map(|context| (berth_trace::TRACEPARENT, context))
                .into_iter()
                .chain([(berth_trace::ASK, "1".to_owned())])
                .collect();
            let payload = self.request(method, request, timeout, &metadata).await?;
            let answer = T::parse_from_bytes(&payload)
                .map_err(|source| ShimError::Decode { method, source })?;
            let more = answer.special_fields().unknown_fields();
            if let Some(UnknownValueRef::LengthDelimited(bytes)) = more.get(wire::FIELD) {
                let trace = current.recording().trace();
                current.take(wire::decode(bytes, trace, &[Part::Shim]));
            }
            Ok(answer)
        })
        .await
    }

    /// A call without an answer, with metadata, which whoever does not know it ignores.
    pub(super) async fn call_with(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
        metadata: Option<(&'static str, String)>,
    ) -> Result<(), ShimError> {
        self.request(method, request, timeout, metadata.as_slice())
            .await
            .map(drop)
    }

    async fn request(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
        metadata: &[(&'static str, String)],
    ) -> Result<Vec<u8>, ShimError> {
        let v3 = self.v3.load(Ordering::Relaxed);
        let first = self.try_call(v3, method, request, timeout, metadata).await;
        let answer = match first {
            Err(e) if is_unknown_service(&e) => {
                let second = self.try_call(!v3, method, request, timeout, metadata).await;
                if second.is_ok() {
                    self.v3.store(!v3, Ordering::Relaxed);
                }
                second
            }
            other => other,
        };
        answer.map_err(|e| ShimError::from_ttrpc(method, e, timeout))
    }

    pub(super) async fn call_empty(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<(), ShimError> {
        self.call::<protobuf::well_known_types::empty::Empty>(method, request, timeout)
            .await
            .map(|_| ())
    }

    async fn try_call(
        &self,
        v3: bool,
        method: &'static str,
        message: &impl Message,
        timeout: Duration,
        metadata: &[(&'static str, String)],
    ) -> Result<Vec<u8>, ttrpc::Error> {
        let service = if v3 { V3 } else { V2 };
        self.raw(service, method, message, timeout, metadata).await
    }

    /// One call of another service of the shim's; gives the encoded answer.
    pub(super) async fn call_service(
        &self,
        service: &str,
        method: &str,
        message: &impl Message,
        timeout: Duration,
    ) -> Result<Vec<u8>, ttrpc::Error> {
        self.raw(service, method, message, timeout, &[]).await
    }

    async fn raw(
        &self,
        service: &str,
        method: &str,
        message: &impl Message,
        timeout: Duration,
        metadata: &[(&'static str, String)],
    ) -> Result<Vec<u8>, ttrpc::Error> {
        let metadata = metadata.iter().map(|(key, value)| ttrpc::proto::KeyValue {
            key: (*key).to_owned(),
            value: value.clone(),
            ..Default::default()
        });
        let request = ttrpc::Request {
            service: service.to_owned(),
            method: method.to_owned(),
            timeout_nano: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
            payload: message
                .write_to_bytes()
                .map_err(|e| ttrpc::Error::Others(e.to_string()))?,
            metadata: metadata.collect(),
            ..Default::default()
        };
        self.client.request(request).await.map(|r| r.payload)
    }
}

/// Go's ttrpc answers `Unimplemented`, the Rust one `INVALID_ARGUMENT` or `NOT_FOUND`, each naming the service's path.
fn is_unknown_service(error: &ttrpc::Error) -> bool {
    let ttrpc::Error::RpcStatus(status) = error else {
        return false;
    };
    let text = status.message();
    let named = text.contains(V2) || text.contains(V3);
    named && !text.contains("is not supported")
}

pub(super) fn options(options: &RuntimeOptions) -> Result<Option<Any>, ShimError> {
    let any = |type_url: &str, value: Vec<u8>| Any {
        type_url: type_url.to_owned(),
        value,
        ..Default::default()
    };
    Ok(match options {
        RuntimeOptions::Command(command) => Some(any(
            OWN_OPTIONS,
            serde_json::to_vec(command).map_err(ShimError::Encode)?,
        )),
        RuntimeOptions::Runc {
            binary,
            root,
            systemd_cgroup,
        } => {
            let message = containerd_shim_protos::shim::oci::Options {
                binary_name: binary.clone(),
                root: root.clone(),
                systemd_cgroup: *systemd_cgroup,
                ..Default::default()
            };
            Some(any(
                "containerd.runc.v1.Options",
                message.write_to_bytes().unwrap_or_default(),
            ))
        }
        RuntimeOptions::Config {
            type_url,
            config_path,
        } => {
            // runtimeoptions.v1.Options: type_url is field 1, config_path field 2.
            let mut value = Vec::new();
            for (tag, text) in [(0x0a_u8, type_url), (0x12, config_path)] {
                if !text.is_empty() {
                    value.push(tag);
                    let mut rest = text.len();
                    while rest >= 0x80 {
                        value.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
                        rest >>= 7;
                    }
                    value.push(u8::try_from(rest).unwrap_or(0));
                    value.extend_from_slice(text.as_bytes());
                }
            }
            Some(any("runtimeoptions.v1.Options", value))
        }
        RuntimeOptions::None => None,
    })
}

pub(crate) fn time(stamp: Option<&Timestamp>) -> SystemTime {
    let Some(stamp) = stamp else {
        return SystemTime::now();
    };
    let seconds = u64::try_from(stamp.seconds).unwrap_or(0);
    let nanos = u32::try_from(stamp.nanos).unwrap_or(0);
    if seconds == 0 {
        SystemTime::now()
    } else {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
    }
}

pub(super) fn state(answer: &api::StateResponse) -> State {
    let status = match answer.status.enum_value_or_default() {
        WireStatus::CREATED => Status::Created,
        WireStatus::RUNNING | WireStatus::PAUSED | WireStatus::PAUSING => Status::Running,
        WireStatus::STOPPED => Status::Stopped(Exit {
            code: answer.exit_status,
            at: time(answer.exited_at.as_ref()),
        }),
        WireStatus::UNKNOWN => Status::Unknown,
    };
    State {
        pid: answer.pid,
        status,
    }
}
