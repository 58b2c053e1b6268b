//! `/metrics/probes`: the stock `prober_*` metrics.

use std::collections::HashMap;
use std::sync::Arc;

use http::Response;

use super::exposition::{Exposition, Kind, seconds};
use super::reply::Body;
use crate::agent::Agent;
use crate::probes::{BUCKETS_MS, ProbeCounts, ProbeKey};

/// The answer.
pub(super) fn probes(agent: &Agent) -> Response<Body> {
    let handles = agent.handles();
    let pods: HashMap<&str, _> = handles
        .iter()
        .map(|handle| (handle.uid.as_str(), Arc::clone(&*handle.pod.borrow())))
        .collect();
    let mut out = Exposition::default();
    for (key, counts) in agent.probed.counts(|uid| pods.contains_key(uid)) {
        let Some(pod) = pods.get(key.uid.as_str()) else {
            continue;
        };
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
        add(&mut out, &key, &counts, &namespace, &name);
    }
    out.reply()
}

fn add(out: &mut Exposition, key: &ProbeKey, counts: &ProbeCounts, namespace: &str, pod: &str) {
    let (container, kind) = (
        ("container", key.container.as_str()),
        ("probe_type", key.kind),
    );
    let (namespace, pod) = (("namespace", namespace), ("pod", pod));
    for (result, count) in [("successful", counts.successful), ("failed", counts.failed)] {
        if count == 0 {
            continue;
        }
        let uid = ("pod_uid", key.uid.as_str());
        let labels = [container, namespace, pod, uid, kind, ("result", result)];
        let help = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
        out.family("prober_probe_total", help, Kind::Counter)
            .add(&labels, count);
    }
    if counts.successful == 0 {
        return;
    }
    let help = "[ALPHA] Duration in seconds for a probe response.";
    let family = out.family("prober_probe_duration_seconds", help, Kind::Histogram);
    let mut sum = 0;
    for (index, count) in counts.buckets.iter().enumerate() {
        sum += count;
        let limit = BUCKETS_MS.get(index).map(|ms| seconds(ms * 1_000_000));
        let limit = limit.map_or_else(|| "+Inf".to_owned(), |limit| plain(&limit));
        let labels = [container, namespace, pod, kind, ("le", limit.as_str())];
        family.part("_bucket", &labels, sum);
    }
    let labels = [container, namespace, pod, kind];
    let total = u64::try_from(counts.total.as_nanos()).unwrap_or(u64::MAX);
    family.part("_sum", &labels, seconds(total));
    family.part("_count", &labels, counts.successful);
}

/// Without zeros at the end, as Prometheus writes buckets.
fn plain(number: &str) -> String {
    number
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_names_and_a_histogram_that_adds_up() {
        let key = ProbeKey {
            uid: "u".to_owned(),
            container: "c".to_owned(),
            kind: "Liveness",
        };
        let mut counts = ProbeCounts {
            successful: 3,
            failed: 2,
            total: std::time::Duration::from_millis(1500),
            ..ProbeCounts::default()
        };
        counts.buckets[1] = 2;
        counts.buckets[11] = 1;
        let mut out = Exposition::default();
        add(&mut out, &key, &counts, "ns", "p");
        let text = out.text();
        let pod = "container=\"c\",namespace=\"ns\",pod=\"p\"";
        for line in [
            format!(
                "prober_probe_total{{{pod},pod_uid=\"u\",probe_type=\"Liveness\",result=\"failed\"}} 2"
            ),
            format!(
                "prober_probe_duration_seconds_bucket{{{pod},probe_type=\"Liveness\",le=\"0.005\"}} 0"
            ),
            format!(
                "prober_probe_duration_seconds_bucket{{{pod},probe_type=\"Liveness\",le=\"10\"}} 2"
            ),
            format!(
                "prober_probe_duration_seconds_bucket{{{pod},probe_type=\"Liveness\",le=\"+Inf\"}} 3"
            ),
            format!(
                "prober_probe_duration_seconds_sum{{{pod},probe_type=\"Liveness\"}} 1.500000000"
            ),
            format!("prober_probe_duration_seconds_count{{{pod},probe_type=\"Liveness\"}} 3"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
