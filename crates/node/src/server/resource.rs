//! `/metrics/resource`: what the API server's metrics.k8s.io and metrics-server ask for.

use http::Response;
use jiff::Timestamp;

use super::exposition::{Exposition, Kind, seconds};
use super::reply::Body;
use crate::agent::Agent;
use crate::usage::{self, Scene};
use Kind::{Counter, Gauge};

/// The answer.
pub(super) async fn resource(agent: &Agent) -> Response<Body> {
    exposition(&usage::gather(agent).await).reply()
}

fn exposition(scene: &Scene) -> Exposition {
    let mut out = Exposition::default();
    let now = scene.at.as_millisecond();
    let machine = &scene.machine;
    out.family(
        "node_cpu_usage_seconds_total",
        "[STABLE] CPU time that the node has used, in seconds",
        Counter,
    )
    .at(&[], seconds(machine.cpu_ns), now);
    out.family(
        "node_memory_working_set_bytes",
        "[STABLE] Working set of the node in bytes",
        Gauge,
    )
    .at(&[], machine.working_set(), now);
    out.family(
        "node_swap_usage_bytes",
        "[ALPHA] Swap that the node uses in bytes. Reported only on non-windows systems",
        Gauge,
    )
    .at(
        &[],
        machine.swap_total.saturating_sub(machine.swap_free),
        now,
    );
    for pod in &scene.pods {
        let labels = [
            ("namespace", pod.namespace.as_str()),
            ("pod", pod.name.as_str()),
        ];
        if let Some(nanos) = pod.cpu_ns() {
            let name = "pod_cpu_usage_seconds_total";
            let help = "[STABLE] CPU time that the pod has used, in seconds";
            out.family(name, help, Counter)
                .at(&labels, seconds(nanos), now);
        }
        if let Some(bytes) = pod.working_set() {
            let name = "pod_memory_working_set_bytes";
            let help = "[STABLE] Working set of the pod in bytes";
            out.family(name, help, Gauge).at(&labels, bytes, now);
        }
        if let Some(bytes) = pod.swap() {
            let name = "pod_swap_usage_bytes";
            let help =
                "[ALPHA] Swap that the pod uses in bytes. Reported only on non-windows systems";
            out.family(name, help, Gauge).at(&labels, bytes, now);
        }
        for container in &pod.containers {
            containers(&mut out, container, labels, scene.at);
        }
    }
    let failed = u8::from(!scene.is_current);
    out.family(
        "resource_scrape_error",
        "[STABLE] 1 if the runtime did not answer and its figures are older ones, 0 otherwise",
        Gauge,
    )
    .add(&[], failed);
    out.family("scrape_error", "[ALPHA] As resource_scrape_error", Gauge)
        .add(&[], failed);
    out
}

fn containers(
    out: &mut Exposition,
    container: &usage::ContainerScene,
    [namespace, pod]: [(&str, &str); 2],
    at: Timestamp,
) {
    let labels = [("container", container.name.as_str()), namespace, pod];
    let time = container.taken(at) / 1_000_000;
    if let Some(start) = container.started {
        let nanos = u64::try_from(start.as_nanosecond()).unwrap_or(0);
        out.family(
            "container_start_time_seconds",
            "[STABLE] When the container was started, in seconds since 1970",
            Gauge,
        )
        .add(&labels, seconds(nanos));
    }
    if let Some(nanos) = container.cpu_ns() {
        let name = "container_cpu_usage_seconds_total";
        let help = "[STABLE] CPU time that the container has used, in seconds";
        out.family(name, help, Counter)
            .at(&labels, seconds(nanos), time);
    }
    if let Some(bytes) = container.working_set() {
        let name = "container_memory_working_set_bytes";
        let help = "[STABLE] Working set of the container in bytes";
        out.family(name, help, Gauge).at(&labels, bytes, time);
    }
    if let Some(bytes) = container.swap() {
        let name = "container_swap_usage_bytes";
        let help =
            "[ALPHA] Swap that the container uses in bytes. Reported only on non-windows systems";
        out.family(name, help, Gauge).at(&labels, bytes, time);
    }
    if let Some(bytes) = container
        .cgroup
        .as_ref()
        .and_then(|cgroup| cgroup.swap_limit)
    {
        let name = "container_swap_limit_bytes";
        let help = "[ALPHA] Swap that the container may use in bytes. Reported only on non-windows systems";
        out.family(name, help, Gauge).at(&labels, bytes, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::scenes::{EVIL, scene};

    #[test]
    fn node_pods_and_containers_have_the_stock_names_and_times() {
        let text = exposition(&scene()).text();
        for line in [
            "node_cpu_usage_seconds_total 2.000000000 1700000000000",
            "node_memory_working_set_bytes 600 1700000000000",
            "node_swap_usage_bytes 5 1700000000000",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"web\"} 9.000000000 1700000000000",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"web\"} 90 1700000000000",
            "container_cpu_usage_seconds_total{container=\"plain\",namespace=\"ns\",pod=\"web\"} 1.500000000 1700000000000",
            "container_start_time_seconds{container=\"plain\",namespace=\"ns\",pod=\"web\"} 1699999000.000000000",
            // A guest's figures are of when they were taken.
            "container_cpu_usage_seconds_total{container=\"guest\",namespace=\"ns\",pod=\"boxed\"} 0.250000000 1699999995000",
            "container_memory_working_set_bytes{container=\"guest\",namespace=\"ns\",pod=\"boxed\"} 77 1699999995000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("container_swap_limit_bytes"), "{text}");
        let mut old = scene();
        old.is_current = false;
        assert!(
            exposition(&old)
                .text()
                .contains("\nresource_scrape_error 1\n")
        );
    }

    #[test]
    fn a_name_with_quotes_and_newlines_makes_no_line_of_its_own() {
        let mut evil = scene();
        let honest = exposition(&evil).text().lines().count();
        evil.pods[0].containers[0].name = EVIL.to_owned();
        let text = exposition(&evil).text();
        assert_eq!(text.lines().count(), honest);
        assert!(
            !text
                .lines()
                .any(|line| line.starts_with("node_cpu_usage_seconds_total 666"))
        );
    }
}
