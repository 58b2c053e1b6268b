//! What the CRI runtime says of containers and pods: the only source where a sandbox has a kernel of its own, and of networks
//! and writable layers anywhere.
//!
//! The runtime is asked once for all who want to know at the same time, and not for longer than [`LIMIT`]. When it does not
//! answer, its last answer stands, with the times at which its numbers were taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_cri_api::v1::{
    ContainerStats, ListContainerStatsRequest, ListMetricDescriptorsRequest,
    ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest, NetworkInterfaceUsage, UInt64Value,
};
use tracing::debug;

use crate::cri::{Cri, Limit, rpc_message, within};

/// The runtime has so long for an answer.
const LIMIT: Duration = Duration::from_secs(8);
/// Who asks within this time gets the answer that another one got.
const SHARED_FOR: Duration = Duration::from_millis(200);
/// Interfaces of one pod that are shown: a pod may make as many as it likes in its own network namespace.
const MAX_INTERFACES: usize = 16;

/// Counters of one interface: bytes, packets, errors, dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceUsage {
    pub(crate) name: String,
    pub(crate) receive: [Option<u64>; 4],
    pub(crate) transmit: [Option<u64>; 4],
}

/// One answer of the runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    /// By container.
    pub(crate) containers: HashMap<String, ContainerStats>,
    /// By sandbox; the default interface is the first one.
    pub(crate) networks: HashMap<String, Vec<InterfaceUsage>>,
    /// Number of processes by sandbox.
    pub(crate) processes: HashMap<String, u64>,
}

#[derive(Default)]
struct Last {
    at: Option<Instant>,
    failed: bool,
    answer: Arc<Reported>,
    /// The runtime does not know this call: no pods' statistics.
    no_pods: bool,
}

/// The last answers.
#[derive(Default)]
pub(crate) struct Asked {
    last: tokio::sync::Mutex<Last>,
    packets: tokio::sync::Mutex<Packets>,
}

#[derive(Default)]
struct Packets {
    at: Option<Instant>,
    answer: Arc<HashMap<String, Vec<InterfaceUsage>>>,
}

impl Asked {
    /// The runtime's figures, and whether they are of now (false: it did not answer, they are older).
    pub(crate) async fn stats(&self, cri: &Cri) -> (Arc<Reported>, bool) {
        self.stats_within(cri, LIMIT).await
    }

    async fn stats_within(&self, cri: &Cri, limit: Duration) -> (Arc<Reported>, bool) {
        let mut last = self.last.lock().await;
        let fresh = last.at.is_some_and(|at| at.elapsed() < SHARED_FOR);
        if !fresh {
            let answer = ask(cri, &mut last.no_pods, limit).await;
            last.at = Some(Instant::now());
            last.failed = answer.is_none();
            if let Some(answer) = answer {
                last.answer = Arc::new(answer);
            }
        }
        (Arc::clone(&last.answer), !last.failed)
    }

    /// Interfaces with packets and drops, by sandbox, where the runtime counts these.
    pub(crate) async fn packets(&self, cri: &Cri) -> Arc<HashMap<String, Vec<InterfaceUsage>>> {
        let mut last = self.packets.lock().await;
        if last.at.is_none_or(|at| at.elapsed() >= SHARED_FOR) {
            if let Some(answer) = ask_packets(cri).await {
                last.answer = Arc::new(answer);
            }
            last.at = Some(Instant::now());
        }
        Arc::clone(&last.answer)
    }
}

async fn ask(cri: &Cri, no_pods: &mut bool, limit: Duration) -> Option<Reported> {
    if !*no_pods {
        let request = within(Limit(Some(limit)), ListPodSandboxStatsRequest::default());
        match cri.runtime().list_pod_sandbox_stats(request).await {
            Ok(answer) => return Some(of_pods(answer.into_inner().stats)),
            Err(error) if error.code() == tonic::Code::Unimplemented => *no_pods = true,
            Err(error) => {
                debug!(error = %rpc_message(&error), "no statistics of pods");
                return None;
            }
        }
    }
    let request = within(Limit(Some(limit)), ListContainerStatsRequest::default());
    let answer = cri.runtime().list_container_stats(request).await;
    let answer = answer.inspect_err(|error| {
        debug!(error = %rpc_message(error), "no statistics of containers");
    });
    let mut reported = Reported::default();
    reported.add(answer.ok()?.into_inner().stats);
    Some(reported)
}

impl Reported {
    fn add(&mut self, stats: Vec<ContainerStats>) {
        for stats in stats {
            if let Some(attributes) = &stats.attributes {
                self.containers.insert(attributes.id.clone(), stats);
            }
        }
    }
}

fn of_pods(pods: Vec<berth_cri_api::v1::PodSandboxStats>) -> Reported {
    let mut reported = Reported::default();
    for pod in pods {
        let (Some(attributes), Some(linux)) = (pod.attributes, pod.linux) else {
            continue;
        };
        reported.add(linux.containers);
        if let Some(network) = linux.network {
            let all = network
                .default_interface
                .into_iter()
                .chain(network.interfaces);
            let mut shown: Vec<InterfaceUsage> = Vec::new();
            for interface in all.map(of_interface) {
                if shown.len() < MAX_INTERFACES && !shown.iter().any(|i| i.name == interface.name) {
                    shown.push(interface);
                }
            }
            reported.networks.insert(attributes.id.clone(), shown);
        }
        if let Some(count) = linux.process.and_then(|process| process.process_count) {
            reported.processes.insert(attributes.id, count.value);
        }
    }
    reported
}

fn of_interface(usage: NetworkInterfaceUsage) -> InterfaceUsage {
    let value = |value: Option<UInt64Value>| value.map(|value| value.value);
    InterfaceUsage {
        name: usage.name,
        receive: [value(usage.rx_bytes), None, value(usage.rx_errors), None],
        transmit: [value(usage.tx_bytes), None, value(usage.tx_errors), None],
    }
}

/// What follows `container_network_receive_` and `_transmit_`, in the order of [`InterfaceUsage`].
pub(crate) const COUNTERS: [&str; 4] = [
    "bytes_total",
    "packets_total",
    "errors_total",
    "packets_dropped_total",
];

async fn ask_packets(cri: &Cri) -> Option<HashMap<String, Vec<InterfaceUsage>>> {
    let request = within(Limit(Some(LIMIT)), ListMetricDescriptorsRequest::default());
    let descriptors = cri.runtime().list_metric_descriptors(request).await.ok()?;
    let places: HashMap<String, usize> = descriptors
        .into_inner()
        .descriptors
        .into_iter()
        .filter_map(|d| {
            Some((
                d.name,
                d.label_keys.iter().position(|key| key == "interface")?,
            ))
        })
        .collect();
    let request = within(Limit(Some(LIMIT)), ListPodSandboxMetricsRequest::default());
    let answer = cri.runtime().list_pod_sandbox_metrics(request).await.ok()?;
    let mut pods = HashMap::new();
    for pod in answer.into_inner().pod_metrics {
        let mut found: Vec<InterfaceUsage> = Vec::new();
        for metric in &pod.metrics {
            let name = metric.name.strip_prefix("container_network_");
            let direction = name.and_then(|name| name.split_once('_'));
            let place = places.get(&metric.name);
            let (Some((direction, counter)), Some(place)) = (direction, place) else {
                continue;
            };
            let column = COUNTERS.iter().position(|c| *c == counter);
            let interface = metric.label_values.get(*place);
            let (Some(column), Some(interface), Some(value)) = (column, interface, metric.value)
            else {
                continue;
            };
            let index = match found.iter().position(|i| i.name == *interface) {
                Some(index) => index,
                None if found.len() < MAX_INTERFACES => {
                    found.push(InterfaceUsage {
                        name: interface.clone(),
                        ..InterfaceUsage::default()
                    });
                    found.len() - 1
                }
                None => continue,
            };
            let counters = match direction {
                "receive" => &mut found[index].receive,
                "transmit" => &mut found[index].transmit,
                _ => continue,
            };
            counters[column] = Some(value.value);
        }
        pods.insert(pod.pod_sandbox_id, found);
    }
    Some(pods)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_cri_api::v1::{
        LinuxPodSandboxStats, NetworkUsage, PodSandboxAttributes, PodSandboxStats,
    };

    #[test]
    fn a_pod_with_thousands_of_interfaces_shows_a_few() {
        let interface = |name: String| NetworkInterfaceUsage {
            name,
            rx_bytes: Some(UInt64Value { value: 5 }),
            ..NetworkInterfaceUsage::default()
        };
        let pod = PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: "s".to_owned(),
                ..PodSandboxAttributes::default()
            }),
            linux: Some(LinuxPodSandboxStats {
                network: Some(NetworkUsage {
                    default_interface: Some(interface("eth0".to_owned())),
                    interfaces: (0..5000).map(|n| interface(format!("x{n}"))).collect(),
                    ..NetworkUsage::default()
                }),
                ..LinuxPodSandboxStats::default()
            }),
        };
        let reported = of_pods(vec![pod]);
        let shown = &reported.networks["s"];
        assert_eq!(shown.len(), MAX_INTERFACES);
        assert_eq!(
            (shown[0].name.as_str(), shown[0].receive[0]),
            ("eth0", Some(5))
        );
    }

    /// A runtime that takes the connection and says nothing: whoever asks meanwhile gets what is known, in time.
    #[tokio::test]
    async fn a_runtime_that_hangs_holds_nobody_up_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cri.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let silent = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        let (cri, asked) = (Cri::lazy(&socket), Asked::default());
        let limit = Duration::from_millis(50);
        // Both wait for one answer, not the second for another after that of the first.
        let both = async {
            tokio::join!(
                asked.stats_within(&cri, limit),
                asked.stats_within(&cri, limit)
            )
        };
        let both = tokio::time::timeout(Duration::from_secs(5), both).await;
        silent.abort();
        let ((first, current), (_, also)) = both.expect("an answer in time");
        assert!(!current && !also && first.containers.is_empty());
    }
}
