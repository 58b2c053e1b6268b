//! `/stats/summary` and `/metrics/resource`, out of the runtime's container statistics.

use std::collections::BTreeMap;
use std::fmt::Write;

use berth_cri_api::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStats,
    ListContainerStatsRequest, ListContainersRequest,
};
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

/// When the running containers were made, in nanoseconds, by ID.
async fn starts(agent: &Agent) -> Result<BTreeMap<String, i64>, NotServed> {
    let running = ContainerFilter {
        state: Some(ContainerStateValue {
            state: ContainerState::ContainerRunning.into(),
        }),
        ..ContainerFilter::default()
    };
    let request = ListContainersRequest {
        filter: Some(running),
    };
    let answer = agent.cri.runtime().list_containers(request).await;
    let running = answer.map_err(|e| NotServed::cri(&e))?.into_inner();
    let containers = running.containers.into_iter();
    Ok(containers.map(|c| (c.id, c.created_at)).collect())
}

/// One container, as `/metrics/resource` shows it.
struct Shown {
    labels: String,
    cpu: Option<u64>,
    memory: Option<u64>,
    start: i64,
    /// When the numbers were taken, in milliseconds.
    time: i64,
}

pub(super) async fn resource(agent: &Agent) -> Result<Response<Body>, NotServed> {
    let starts = starts(agent).await?;
    let stats = list(agent).await?;
    let now = jiff::Timestamp::now().as_millisecond();
    // Of a container that was restarted the one that runs counts.
    let running = stats.iter().filter_map(|s| {
        let id = &s.attributes.as_ref()?.id;
        let taken = s.cpu.as_ref().map(|cpu| cpu.timestamp / 1_000_000);
        Some(Shown {
            labels: format!(
                "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                escaped(label(s, labels::CONTAINER_NAME)),
                escaped(label(s, labels::POD_NAMESPACE)),
                escaped(label(s, labels::POD_NAME))
            ),
            cpu: cpu_nanos(s),
            memory: memory(s),
            start: *starts.get(id)?,
            time: taken.filter(|time| *time > 0).unwrap_or(now),
        })
    });
    let running: Vec<Shown> = running.collect();
    Ok(text(StatusCode::OK, exposition(machine(), now, &running)))
}

/// A label's value in Prometheus' text format.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

fn exposition((cpu, used): (u64, u64), now: i64, containers: &[Shown]) -> String {
    let seconds = |nanos: u64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let mut out = String::new();
    let _ = write!(
        out,
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {} {now}\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {used} {now}\n\
         # TYPE container_start_time_seconds gauge\n",
        seconds(cpu)
    );
    for c in containers {
        let start = seconds(u64::try_from(c.start).unwrap_or(0));
        let _ = writeln!(out, "container_start_time_seconds{} {start}", c.labels);
    }
    out.push_str("# TYPE container_cpu_usage_seconds_total counter\n");
    for c in containers {
        if let Some(nanos) = c.cpu {
            let (labels, used) = (&c.labels, seconds(nanos));
            let _ = writeln!(
                out,
                "container_cpu_usage_seconds_total{labels} {used} {}",
                c.time
            );
        }
    }
    out.push_str("# TYPE container_memory_working_set_bytes gauge\n");
    for c in containers {
        if let Some(bytes) = c.memory {
            let labels = &c.labels;
            let _ = writeln!(
                out,
                "container_memory_working_set_bytes{labels} {bytes} {}",
                c.time
            );
        }
    }
    out.push_str("# TYPE scrape_error gauge\nscrape_error 0\n# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_the_text_format_with_times() {
        let shown = Shown {
            labels: format!("{{container=\"{}\"}}", escaped("a\"\\\nb")),
            cpu: Some(1_500_000_000),
            memory: Some(4096),
            start: 7_000_000_001,
            time: 9,
        };
        let text = exposition((2_000_000_000, 5), 8, &[shown]);
        for line in [
            "node_cpu_usage_seconds_total 2.000000000 8",
            "node_memory_working_set_bytes 5 8",
            "container_start_time_seconds{container=\"a\\\"\\\\\\nb\"} 7.000000001",
            "container_cpu_usage_seconds_total{container=\"a\\\"\\\\\\nb\"} 1.500000000 9",
            "container_memory_working_set_bytes{container=\"a\\\"\\\\\\nb\"} 4096 9",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
