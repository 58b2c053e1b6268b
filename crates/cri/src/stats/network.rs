//! Counters of a pod's interfaces, read inside its network namespace.

use std::path::Path;

use berth_cri_api::v1::{NetworkInterfaceUsage, NetworkUsage, UInt64Value};

use crate::cni::INTERFACE;
use crate::netns;

/// `None` for a pod on the host's network.
pub(super) fn usage(namespace: &Path, timestamp: i64) -> Option<NetworkUsage> {
    let text = netns::within_network(namespace, || {
        std::fs::read_to_string("/proc/thread-self/net/dev")
    })
    .ok()?
    .ok()?;
    let (default, interfaces) = parse(&text)
        .into_iter()
        .partition(|usage| usage.name == INTERFACE);
    let default: Vec<NetworkInterfaceUsage> = default;
    Some(NetworkUsage {
        timestamp,
        default_interface: default.into_iter().next(),
        interfaces,
    })
}

fn parse(text: &str) -> Vec<NetworkInterfaceUsage> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<u64> = counters
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            let counter = |index: usize| {
                counters
                    .get(index)
                    .map(|value| UInt64Value { value: *value })
            };
            Some(NetworkInterfaceUsage {
                name: name.trim().to_owned(),
                rx_bytes: counter(0),
                rx_errors: counter(2),
                tx_bytes: counter(8),
                tx_errors: counter(10),
            })
        })
        .filter(|usage| usage.name != "lo")
        .collect()
}

/// All counters of one interface, under the names of metrics.
pub(crate) struct Counters {
    pub(crate) name: String,
    pub(crate) counters: Vec<(&'static str, u64)>,
}

/// The interfaces of a pod; none for a pod on the host's network.
pub(crate) fn interfaces(namespace: &Path) -> Vec<Counters> {
    const COLUMNS: [(usize, &str); 8] = [
        (0, "container_network_receive_bytes_total"),
        (1, "container_network_receive_packets_total"),
        (2, "container_network_receive_errors_total"),
        (3, "container_network_receive_packets_dropped_total"),
        (8, "container_network_transmit_bytes_total"),
        (9, "container_network_transmit_packets_total"),
        (10, "container_network_transmit_errors_total"),
        (11, "container_network_transmit_packets_dropped_total"),
    ];
    let text = netns::within_network(namespace, || {
        std::fs::read_to_string("/proc/thread-self/net/dev")
    });
    let text = text.ok().and_then(Result::ok).unwrap_or_default();
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> = numbers
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            Some(Counters {
                name: name.trim().to_owned(),
                counters: COLUMNS
                    .iter()
                    .filter_map(|(column, name)| Some((*name, *numbers.get(*column)?)))
                    .collect(),
            })
        })
        .filter(|counters| counters.name != "lo")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn counters_of_all_but_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
                    eth0:    2646      26    3    0    0     0          0         0     1296      15    4    0    0     0       0          0\n";
        let usage = parse(text);
        assert_eq!(usage.len(), 1);
        let numbers = [
            &usage[0].rx_bytes,
            &usage[0].rx_errors,
            &usage[0].tx_bytes,
            &usage[0].tx_errors,
        ]
        .map(|value| value.as_ref().unwrap().value);
        assert_eq!(numbers, [2646, 3, 1296, 4]);
    }
}
