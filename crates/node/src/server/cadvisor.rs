//! `/metrics/cadvisor`: the names and labels that dashboards expect of cAdvisor.
//!
//! There is a sample for the machine (`id="/"`), for the cgroups that pods are below, for each pod and for each container that
//! runs: their number is bounded by that of pods and of names in their specs. Containers in a sandbox of their own have what
//! the sandbox counts; what it does not count is absent.

mod container;
mod machine;

use http::Response;

use super::exposition::{Exposition, Kind};
use super::reply::Body;
use crate::agent::Agent;
use crate::usage::{self, InterfaceUsage, PodScene, Scene, filesystem};
use container::{Labels, Subject};

/// The answer.
pub(super) async fn cadvisor(agent: &Agent) -> Response<Body> {
    let mut scene = usage::gather(agent).await;
    // Not all runtimes count packets.
    let packets = agent.usage.asked.packets(&agent.cri).await;
    for pod in &mut scene.pods {
        if let Some(more) = packets.get(&pod.sandbox_id) {
            pod.interfaces.clone_from(more);
        }
    }
    let mut out = Exposition::default();
    machine::add(&mut out, &agent.machine);
    add(&mut out, &scene);
    let fs = filesystem(&agent.config.root_dir);
    for pod in &scene.pods {
        for c in &pod.containers {
            container::filesystem(&mut out, &container_labels(pod, c), c, fs, scene.at);
        }
    }
    out.reply()
}

fn container_labels<'a>(pod: &'a PodScene, container: &'a usage::ContainerScene) -> Labels<'a> {
    Labels {
        container: &container.name,
        id: if container.path.is_empty() {
            &container.id
        } else {
            &container.path
        },
        image: &container.image,
        name: &container.id,
        namespace: &pod.namespace,
        pod: &pod.name,
    }
}

fn add(out: &mut Exposition, scene: &Scene) {
    let now = scene.at.as_millisecond();
    let root = container::of_machine(&scene.machine);
    let labels = Labels {
        id: "/",
        ..Labels::default()
    };
    container::add(out, &labels, &Subject::of_cgroup(&root), now);
    interfaces(out, &labels, &scene.machine.interfaces, now);
    for (path, cgroup) in &scene.groups {
        let labels = Labels {
            id: path,
            ..Labels::default()
        };
        container::add(out, &labels, &Subject::of_cgroup(cgroup), now);
    }
    for pod in &scene.pods {
        let whole = Labels {
            id: &pod.path,
            namespace: &pod.namespace,
            pod: &pod.name,
            ..Labels::default()
        };
        if let Some(cgroup) = &pod.cgroup {
            container::add(out, &whole, &Subject::of_cgroup(cgroup), now);
        }
        // A pod on the host's network has none of its own.
        let sandbox = Labels {
            name: &pod.sandbox_id,
            ..whole
        };
        interfaces(out, &sandbox, &pod.interfaces, now);
        for container in &pod.containers {
            let labels = container_labels(pod, container);
            let subject = Subject::of_container(container);
            container::add(
                out,
                &labels,
                &subject,
                container.taken(scene.at) / 1_000_000,
            );
            container::times(out, &labels, container, now);
        }
    }
    let failed = u8::from(!scene.is_current);
    let help = "1 if the runtime did not answer and its figures are older ones, 0 otherwise";
    out.family("container_scrape_error", help, Kind::Gauge)
        .add(&[], failed);
}

#[rustfmt::skip]
const NETWORK: [[(&str, &str); 4]; 2] = [
    [
        ("container_network_receive_bytes_total", "Bytes received"),
        ("container_network_receive_packets_total", "Packets received"),
        ("container_network_receive_errors_total", "Errors while receiving"),
        ("container_network_receive_packets_dropped_total", "Packets dropped while receiving"),
    ],
    [
        ("container_network_transmit_bytes_total", "Bytes transmitted"),
        ("container_network_transmit_packets_total", "Packets transmitted"),
        ("container_network_transmit_errors_total", "Errors while transmitting"),
        ("container_network_transmit_packets_dropped_total", "Packets dropped while transmitting"),
    ],
];

fn interfaces(out: &mut Exposition, labels: &Labels<'_>, all: &[InterfaceUsage], now: i64) {
    for interface in all {
        let [container, id, image, name, namespace, pod] = labels.pairs();
        let labels = [
            container,
            id,
            image,
            ("interface", interface.name.as_str()),
            name,
            namespace,
            pod,
        ];
        for (names, counters) in NETWORK
            .iter()
            .zip([&interface.receive, &interface.transmit])
        {
            for ((metric, help), counter) in names.iter().zip(counters) {
                if let Some(count) = counter {
                    out.family(metric, help, Kind::Counter)
                        .at(&labels, count, now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::scenes::{EVIL, scene};

    fn text(scene: &Scene) -> String {
        let mut out = Exposition::default();
        add(&mut out, scene);
        out.text()
    }

    #[test]
    fn labels_are_those_of_dashboards() {
        let text = text(&scene());
        let of = "container=\"plain\",cpu=\"total\",id=\"/kubepods/podu1/id-plain\",image=\"busybox:1\",name=\"id-plain\",namespace=\"ns\",pod=\"web\"";
        for line in [
            &format!("container_cpu_usage_seconds_total{{{of}}} 1.500000000 1700000000000"),
            "container_cpu_usage_seconds_total{container=\"\",cpu=\"total\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} 2.000000000 1700000000000",
            "container_cpu_usage_seconds_total{container=\"\",cpu=\"total\",id=\"/kubepods/podweb\",image=\"\",name=\"\",namespace=\"ns\",pod=\"web\"} 9.000000000 1700000000000",
            "container_memory_working_set_bytes{container=\"guest\",id=\"/kubepods/podu1/id-guest\",image=\"busybox:1\",name=\"id-guest\",namespace=\"ns\",pod=\"boxed\"} 77 1699999995000",
            "container_network_receive_packets_total{container=\"\",id=\"/kubepods/podweb\",image=\"\",interface=\"eth0\",name=\"sandbox-web\",namespace=\"ns\",pod=\"web\"} 2 1700000000000",
            "container_cpu_cfs_throttled_seconds_total{container=\"plain\",id=\"/kubepods/podu1/id-plain\",image=\"busybox:1\",name=\"id-plain\",namespace=\"ns\",pod=\"web\"} 0.020000000 1700000000000",
            "container_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        // What was not counted is no sample: nothing dropped at receiving, no pressure, no rss of the guest.
        assert!(!text.contains("receive_packets_dropped"), "{text}");
        assert!(!text.contains("pressure"), "{text}");
        assert!(
            !text
                .lines()
                .any(|l| l.starts_with("container_memory_rss") && l.contains("guest")),
            "{text}"
        );
    }

    #[test]
    fn names_of_users_add_no_samples() {
        let honest = text(&scene()).lines().count();
        let mut evil = scene();
        evil.pods[0].containers[0].image = EVIL.to_owned();
        evil.pods[0].interfaces[0].name = EVIL.to_owned();
        assert_eq!(text(&evil).lines().count(), honest);
    }

    #[test]
    fn a_container_that_ended_meanwhile_has_no_figures() {
        let mut ended = scene();
        ended.pods[0].containers[0].cgroup = None;
        let text = text(&ended);
        let left: Vec<&str> = text
            .lines()
            .filter(|l| l.contains("\"id-plain\"") && !l.starts_with('#'))
            .collect();
        assert!(
            left.iter()
                .all(|l| l.starts_with("container_start_time")
                    || l.starts_with("container_last_seen")),
            "{left:?}"
        );
    }
}
