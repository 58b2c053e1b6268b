//! Between messages and what they stand for.

use std::time::SystemTime;

use base64::Engine as _;
use containerd_shim_protos::api::Mount;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use serde_json::{Value, json};
use ttrpc::Code;

/// How a process ended, and when.
pub(crate) type Exit = (u32, SystemTime);

pub(crate) fn stamp(at: SystemTime) -> Timestamp {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(0),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Timestamp::default()
    }
}

pub(crate) fn refuse(code: Code, text: impl Into<String>) -> ttrpc::Error {
    let text: String = text.into();
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, text))
}

pub(crate) fn failed(error: impl std::fmt::Display) -> ttrpc::Error {
    refuse(Code::INTERNAL, error.to_string())
}

/// A message of a type of its own, as JSON.
pub(crate) fn any(any: &MessageField<Any>) -> Value {
    any.as_ref().map_or(Value::Null, |any| {
        json!({
            "type_url": any.type_url,
            "value": base64::engine::general_purpose::STANDARD.encode(&any.value),
        })
    })
}

pub(crate) fn mounts(mounts: &[Mount]) -> Value {
    let mount = |mount: &Mount| json!({"type": mount.type_, "source": mount.source, "target": mount.target, "options": mount.options});
    mounts.iter().map(mount).collect()
}
