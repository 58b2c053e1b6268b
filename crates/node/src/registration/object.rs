//! The Node object as this machine and its runtime make it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus,
    NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::agent::{Agent, Pressure};
use crate::huge_pages::{self, Pool};
use crate::runtime::Facts;

/// The Kubernetes version whose kubelet this agent stands in for.
pub(crate) const KUBELET_VERSION: &str = concat!("v1.36.0+berth-", env!("CARGO_PKG_VERSION"));

/// The longest value of a label.
const MAX_LABEL: usize = 63;

/// Memory that eviction keeps free, the stock `memory.available<100Mi`.
const RESERVED_MEMORY: i64 = 100 << 20;

/// What the node is called where a host name is wanted: its own name, as the stock kubelet has it (`--hostname-override`). Two
/// nodes of one machine are two places. A name that is too long for a label gives way to the machine's.
fn hostname(agent: &Agent) -> String {
    let name = &agent.config.node_name;
    if name.len() > MAX_LABEL {
        return agent.machine.hostname.to_lowercase();
    }
    name.clone()
}

/// The labels that the agent gives its Node.
pub(crate) fn own_labels(agent: &Agent) -> BTreeMap<String, String> {
    let m = &agent.machine;
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), hostname(agent)),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), m.architecture.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        (
            "beta.kubernetes.io/arch".to_owned(),
            m.architecture.to_owned(),
        ),
    ]);
    labels.extend(agent.config.node_labels.clone());
    labels
}

pub(super) fn node(agent: &Agent) -> Node {
    let labels = own_labels(agent);
    let taints = agent.config.register_taints.clone();
    let annotations = super::annotations(agent).into_iter();
    let annotations = annotations.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Node {
        metadata: ObjectMeta {
            name: Some(agent.config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            ..NodeSpec::default()
        }),
        status: Some(status(
            agent,
            &[],
            &Pressure::default(),
            None,
            Timestamp::now(),
        )),
    }
}

/// What the node can hold, in millicores, bytes and pieces, before anything is reserved.
fn capacity(agent: &Agent, pools: &[Pool]) -> BTreeMap<String, Quantity> {
    let m = &agent.machine;
    let mut list = BTreeMap::from([
        ("cpu".to_owned(), Quantity(m.cpus.to_string())),
        (
            "memory".to_owned(),
            Quantity(format!("{}Ki", m.memory_bytes / 1024)),
        ),
        (
            "ephemeral-storage".to_owned(),
            Quantity(format!("{}Ki", m.disk_bytes / 1024)),
        ),
        (
            "pods".to_owned(),
            Quantity(agent.config.max_pods.to_string()),
        ),
    ]);
    for pool in pools {
        let total = huge_pages::binary(pool.total());
        list.insert(pool.resource(), Quantity(total));
    }
    for (name, count) in agent.devices.counts() {
        list.insert(name, Quantity(count.all.to_string()));
    }
    list
}

/// What pods may use of it.
pub(crate) fn allocatable(agent: &Agent) -> BTreeMap<String, Quantity> {
    let m = &agent.machine;
    let pools = huge_pages::pools();
    let mut list = capacity(agent, &pools);
    // What is set aside for huge pages is no other memory.
    let huge: i64 = pools.into_iter().map(Pool::total).sum();
    let memory = (m.memory_bytes - RESERVED_MEMORY - huge).max(0) / 1024;
    list.insert("memory".to_owned(), Quantity(format!("{memory}Ki")));
    let disk = m.disk_bytes / 10 * 9;
    list.insert("ephemeral-storage".to_owned(), Quantity(disk.to_string()));
    for (name, count) in agent.devices.counts() {
        list.insert(name, Quantity(count.healthy.to_string()));
    }
    list
}

pub(super) fn status(
    agent: &Agent,
    images: &[ContainerImage],
    pressure: &Pressure,
    old: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let facts = agent.runtime.borrow().clone();
    let m = &agent.machine;
    let mut addresses: Vec<NodeAddress> = agent
        .host_ips
        .iter()
        .map(|ip| NodeAddress {
            type_: "InternalIP".to_owned(),
            address: ip.clone(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".to_owned(),
        address: hostname(agent),
    });
    let handlers = facts.handlers.iter().map(|h| NodeRuntimeHandler {
        name: Some(h.name.clone()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(h.recursive_read_only_mounts),
            user_namespaces: Some(h.user_namespaces),
        }),
    });
    let handlers: Vec<_> = handlers.collect();
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(allocatable(agent)),
        capacity: Some(capacity(agent, &huge_pages::pools())),
        conditions: Some(conditions(&facts, pressure, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(agent.port),
            }),
        }),
        features: facts.supplemental_groups_policy.map(|policy| NodeFeatures {
            supplemental_groups_policy: Some(policy),
        }),
        images: (!images.is_empty()).then(|| images.to_vec()),
        node_info: Some(NodeSystemInfo {
            architecture: m.architecture.to_owned(),
            boot_id: m.boot_id.clone(),
            container_runtime_version: format!("{}://{}", facts.name, facts.version),
            kernel_version: m.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: m.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: m.os_image.clone(),
            // A machine without swap says nothing: the stock API server refuses a capacity of 0, and the node with it.
            swap: (m.swap_bytes > 0).then_some(NodeSwapStatus {
                capacity: Some(m.swap_bytes),
            }),
            system_uuid: m.system_uuid.clone(),
        }),
        runtime_handlers: (!handlers.is_empty()).then_some(handlers),
        ..NodeStatus::default()
    }
}

fn conditions(
    facts: &Facts,
    pressure: &Pressure,
    old: Option<&NodeStatus>,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let (ready, reason, message) = match &facts.ready {
        Some(Ok(())) => (
            true,
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        ),
        Some(Err(why)) => (false, "KubeletNotReady", why.clone()),
        None => (
            false,
            "KubeletNotReady",
            "container runtime status check may not have completed yet".to_owned(),
        ),
    };
    let pick = |bad: bool, yes: &'static str, no: &'static str| if bad { yes } else { no };
    let list = [
        (
            "MemoryPressure",
            pressure.memory,
            pick(
                pressure.memory,
                "KubeletHasInsufficientMemory",
                "KubeletHasSufficientMemory",
            ),
            pick(
                pressure.memory,
                "kubelet has insufficient memory available",
                "kubelet has sufficient memory available",
            )
            .to_owned(),
        ),
        (
            "DiskPressure",
            pressure.disk,
            pick(
                pressure.disk,
                "KubeletHasDiskPressure",
                "KubeletHasNoDiskPressure",
            ),
            pick(
                pressure.disk,
                "kubelet has disk pressure",
                "kubelet has no disk pressure",
            )
            .to_owned(),
        ),
        (
            "PIDPressure",
            pressure.pids,
            pick(
                pressure.pids,
                "KubeletHasInsufficientPID",
                "KubeletHasSufficientPID",
            ),
            pick(
                pressure.pids,
                "kubelet has insufficient PID available",
                "kubelet has sufficient PID available",
            )
            .to_owned(),
        ),
        ("Ready", ready, reason, message),
    ];
    list.into_iter()
        .map(|(type_, holds, reason, message)| {
            let status = if holds { "True" } else { "False" };
            let since = old
                .and_then(|s| s.conditions.as_ref())
                .and_then(|l| l.iter().find(|c| c.type_ == type_ && c.status == status))
                .and_then(|c| c.last_transition_time.clone());
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect()
}

/// Equal but for heartbeat times (and the conditions of others).
pub(super) fn same(old: &NodeStatus, new: &NodeStatus) -> bool {
    let strip = |s: &NodeStatus| {
        let mut s = s.clone();
        for c in s.conditions.iter_mut().flatten() {
            c.last_heartbeat_time = None;
        }
        s
    };
    strip(old) == strip(new)
}
