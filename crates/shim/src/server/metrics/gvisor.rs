//! gVisor counts by itself (`runsc events --stats`): memory for the whole sandbox, CPU time by a container's share of
//! it, which may become less.

use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryStat, Metrics, PidsStat,
};
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;

use super::pack;
use crate::server::container::Container;
use crate::server::error::Error;
use crate::server::io::ChildStdio;

pub(super) async fn metrics(container: &Container) -> Result<Any, Error> {
    let args = ["--stats", container.id.as_str()];
    let text = container
        .runtime
        .call(&container.bundle, "events", &args, ChildStdio::default())
        .await?;
    let event: serde_json::Value =
        serde_json::from_str(text.trim()).map_err(|source| Error::Malformed {
            what: "runsc's statistics",
            source,
        })?;
    let get = |path: &str| {
        event
            .pointer(path)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
    let mut out = Metrics::new();
    let usage = CPUUsage {
        total: container.cpu_time(get("/data/cpu/usage/total")),
        ..Default::default()
    };
    out.cpu = MessageField::some(CPUStat {
        usage: MessageField::some(usage),
        ..Default::default()
    });
    let memory = get("/data/memory/usage/usage");
    out.memory = MessageField::some(MemoryStat {
        total_rss: memory,
        rss: memory,
        usage: MessageField::some(MemoryEntry {
            usage: memory,
            limit: get("/data/memory/usage/limit"),
            ..Default::default()
        }),
        ..Default::default()
    });
    out.pids = MessageField::some(PidsStat {
        current: get("/data/pids/current"),
        ..Default::default()
    });
    Ok(pack("io.containerd.cgroups.v1.Metrics", &out))
}
