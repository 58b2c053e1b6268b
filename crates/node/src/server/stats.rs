//! `/stats/summary` and `/metrics/resource`, out of the runtime's container statistics.

use std::collections::BTreeMap;
use std::fmt::Write;

use berth_cri_api::v1::{ContainerStats, ListContainerStatsRequest};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::reply::{Body, NotServed, json as json_reply, text};
use crate::agent::Agent;
use crate::cri::{labels, timestamp};
use crate::machine::meminfo_bytes;

async fn list(agent: &Agent) -> Result<Vec<ContainerStats>, NotServed> {
    let request = ListContainerStatsRequest { filter: None };
    let answer = agent.cri.runtime().list_container_stats(request).await;
    Ok(answer.map_err(|e| NotServed::cri(&e))?.into_inner().stats)
}

fn label<'a>(s: &'a ContainerStats, key: &str) -> &'a str {
    s.attributes
        .as_ref()
        .and_then(|a| a.labels.get(key))
        .map(String::as_str)
        .unwrap_or_default()
}

fn cpu_nanos(s: &ContainerStats) -> Option<u64> {
    s.cpu
        .as_ref()?
        .usage_core_nano_seconds
        .as_ref()
        .map(|v| v.value)
}

fn memory(s: &ContainerStats) -> Option<u64> {
    s.memory
        .as_ref()?
        .working_set_bytes
        .as_ref()
        .map(|v| v.value)
}

/// The machine's own cpu time (nanoseconds) and memory in use.
fn machine() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = stat
        .lines()
        .next()
        .map(|l| {
            let fields: Vec<u64> = l
                .split_whitespace()
                .skip(1)
                .filter_map(|f| f.parse().ok())
                .collect();
            let idle: u64 = fields.iter().skip(3).take(2).sum();
            fields.iter().take(8).sum::<u64>().saturating_sub(idle)
        })
        .unwrap_or(0);
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key| meminfo_bytes(&info, key).unwrap_or(0);
    let used = of("MemTotal:") - of("MemAvailable:");
    // A tick is 10 ms on every Linux that Kubernetes runs on.
    (ticks * 10_000_000, u64::try_from(used).unwrap_or(0))
}

pub(super) async fn resource(agent: &Agent) -> Result<Response<Body>, NotServed> {
    let stats = list(agent).await?;
    let mut out = String::new();
    let (cpu, used) = machine();
    let seconds = |nanos: u64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let _ = write!(
        out,
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {used}\n\
         # TYPE container_cpu_usage_seconds_total counter\n",
        seconds(cpu)
    );
    let tags = |s: &ContainerStats| {
        format!(
            "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
            label(s, labels::CONTAINER_NAME),
            label(s, labels::POD_NAMESPACE),
            label(s, labels::POD_NAME)
        )
    };
    for s in &stats {
        if let Some(nanos) = cpu_nanos(s) {
            let _ = writeln!(
                out,
                "container_cpu_usage_seconds_total{} {}",
                tags(s),
                seconds(nanos)
            );
        }
    }
    out.push_str("# TYPE container_memory_working_set_bytes gauge\n");
    for s in &stats {
        if let Some(bytes) = memory(s) {
            let _ = writeln!(out, "container_memory_working_set_bytes{} {bytes}", tags(s));
        }
    }
    out.push_str("# TYPE scrape_error gauge\nscrape_error 0\n");
    Ok(text(StatusCode::OK, out))
}

pub(super) async fn summary(agent: &Agent) -> Result<Response<Body>, NotServed> {
    let mut pods: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for s in list(agent).await? {
        let uid = label(&s, labels::POD_UID).to_owned();
        let entry = pods.entry(uid.clone()).or_insert_with(|| {
            let about = json!({
                "name": label(&s, labels::POD_NAME),
                "namespace": label(&s, labels::POD_NAMESPACE),
                "uid": uid,
            });
            (about, Vec::new())
        });
        let time = s.cpu.as_ref().and_then(|c| timestamp(c.timestamp));
        entry.1.push(json!({
            "name": label(&s, labels::CONTAINER_NAME),
            "cpu": {"time": time, "usageCoreNanoSeconds": cpu_nanos(&s)},
            "memory": {"time": time, "workingSetBytes": memory(&s)},
        }));
    }
    let pods: Vec<Value> = pods
        .into_values()
        .map(|(about, containers)| json!({"podRef": about, "containers": containers}))
        .collect();
    let (cpu, used) = machine();
    let now = jiff::Timestamp::now();
    Ok(json_reply(&json!({
        "node": {
            "nodeName": agent.config.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": cpu},
            "memory": {"time": now, "workingSetBytes": used},
        },
        "pods": pods,
    })))
}
