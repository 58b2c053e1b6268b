//! The parts of which the summary is made.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cri::timestamp;
use crate::usage::pressure::{Pressure, Pressures};
use crate::usage::{CgroupUsage, FsUsage, InterfaceUsage, Rates};

pub(super) fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

pub(super) fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn cpu(
    rates: &Rates,
    name: &str,
    time: i64,
    used: Option<u64>,
    pressure: Option<Pressure>,
) -> Option<Value> {
    let used = used?;
    let mut out = Map::new();
    put(&mut out, "time", timestamp(time).map(|t| t.to_string()));
    put(&mut out, "usageNanoCores", rates.update(name, time, used));
    put(&mut out, "usageCoreNanoSeconds", Some(used));
    put(&mut out, "psi", pressure.map(|p| p.json()));
    Some(Value::Object(out))
}

/// Memory, in the order: available, usage, working set, rss, page faults, major ones.
pub(super) fn memory(
    time: i64,
    figures: [Option<u64>; 6],
    pressure: Option<Pressure>,
) -> Option<Value> {
    const NAMES: [&str; 6] = [
        "availableBytes",
        "usageBytes",
        "workingSetBytes",
        "rssBytes",
        "pageFaults",
        "majorPageFaults",
    ];
    if figures.iter().all(Option::is_none) {
        return None;
    }
    let mut out = Map::new();
    put(&mut out, "time", timestamp(time).map(|t| t.to_string()));
    for (name, figure) in NAMES.into_iter().zip(figures) {
        put(&mut out, name, figure);
    }
    put(&mut out, "psi", pressure.map(|p| p.json()));
    Some(Value::Object(out))
}

pub(super) fn io(at: Timestamp, pressures: &Pressures) -> Option<Value> {
    Some(json!({"time": at.to_string(), "psi": pressures.io?.json()}))
}

pub(super) fn of_fs(
    fs: FsUsage,
    at: Timestamp,
    used: Option<u64>,
    inodes_used: Option<u64>,
) -> Value {
    json!({
        "time": at.to_string(),
        "availableBytes": fs.available,
        "capacityBytes": fs.capacity,
        "usedBytes": used.unwrap_or(fs.used),
        "inodesFree": fs.inodes_free,
        "inodes": fs.inodes,
        "inodesUsed": inodes_used.unwrap_or(fs.inodes.saturating_sub(fs.inodes_free)),
    })
}

pub(super) fn network(at: Timestamp, interfaces: &[InterfaceUsage]) -> Option<Value> {
    let one = |interface: &InterfaceUsage| {
        let mut out = Map::new();
        put(&mut out, "name", Some(interface.name.clone()));
        put(&mut out, "rxBytes", interface.receive[0]);
        put(&mut out, "rxErrors", interface.receive[2]);
        put(&mut out, "txBytes", interface.transmit[0]);
        put(&mut out, "txErrors", interface.transmit[2]);
        out
    };
    let mut out = one(interfaces.first()?);
    put(&mut out, "time", Some(at.to_string()));
    let all: Vec<Value> = interfaces.iter().map(|i| Value::Object(one(i))).collect();
    out.insert("interfaces".to_owned(), Value::Array(all));
    Some(Value::Object(out))
}

/// CPU, memory, pressure and swap of a cgroup.
pub(super) fn of_cgroup(
    rates: &Rates,
    name: &str,
    at: Timestamp,
    cgroup: &CgroupUsage,
) -> Map<String, Value> {
    let mut out = Map::new();
    let psi = &cgroup.pressures;
    put(
        &mut out,
        "cpu",
        cpu(rates, name, nanos(at), cgroup.cpu_ns, psi.cpu),
    );
    put(
        &mut out,
        "memory",
        memory(nanos(at), figures(cgroup), psi.memory),
    );
    put(&mut out, "io", io(at, psi));
    put(
        &mut out,
        "swap",
        cgroup.swap.map(|used| swap(at, used, cgroup.swap_limit)),
    );
    out
}

pub(super) fn figures(cgroup: &CgroupUsage) -> [Option<u64>; 6] {
    let available = cgroup.memory_limit.zip(cgroup.working_set);
    [
        available.map(|(limit, used)| limit.saturating_sub(used)),
        cgroup.memory_usage,
        cgroup.working_set,
        cgroup.rss,
        cgroup.page_faults,
        cgroup.major_page_faults,
    ]
}

pub(super) fn swap(at: Timestamp, used: u64, limit: Option<u64>) -> Value {
    let mut out = Map::new();
    put(&mut out, "time", Some(at.to_string()));
    put(&mut out, "swapUsageBytes", Some(used));
    put(
        &mut out,
        "swapAvailableBytes",
        limit.map(|limit| limit.saturating_sub(used)),
    );
    Value::Object(out)
}
