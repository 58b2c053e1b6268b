//! What one node has said, and what follows from two samples of it. Nothing here looks at a clock or at the network.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::exposition::{self, Metric};

/// Samples that are closer together say nothing of a rate.
const MIN_WINDOW_MS: i64 = 400;
/// A clock that goes back by more was set anew.
const SET_BACK_MS: i64 = 1000;
/// More nanoseconds of processor time than any machine has had.
const MAX_NANOS: f64 = 9.0e18;

/// Use over a window that ends at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) time_ms: i64,
    pub(super) window_ms: u64,
    pub(super) nanocores: u64,
    pub(super) memory: u64,
}

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    time_ms: i64,
    /// Processor time since the start, in nanoseconds.
    cpu: u64,
    memory: u64,
}

/// The samples of a node or container that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Series {
    /// When it began, where that is known.
    start_ms: Option<i64>,
    previous: Option<Point>,
    last: Point,
}

impl Series {
    fn new(start_ms: Option<i64>, last: Point) -> Self {
        Self {
            start_ms,
            previous: None,
            last,
        }
    }

    /// Takes one more.
    fn observe(&mut self, start_ms: Option<i64>, point: Point) {
        let passed = point.time_ms.saturating_sub(self.last.time_ms);
        let restarted = self.start_ms.is_some() && start_ms.is_some() && self.start_ms != start_ms;
        if restarted || point.cpu < self.last.cpu || passed < -SET_BACK_MS {
            *self = Self::new(start_ms, point);
        } else if passed >= MIN_WINDOW_MS {
            self.previous = Some(self.last);
            self.last = point;
            self.start_ms = start_ms.or(self.start_ms);
        }
    }

    /// From two samples, or from the start when there is but one.
    fn usage(&self) -> Option<Usage> {
        let (from, cpu) = match (self.previous, self.start_ms) {
            (Some(previous), _) => (previous.time_ms, previous.cpu),
            (None, Some(start)) if start > 0 => (start, 0),
            (None, _) => return None,
        };
        let window = self.last.time_ms.checked_sub(from)?;
        if window < MIN_WINDOW_MS {
            return None;
        }
        let window_ms = u64::try_from(window).ok()?;
        let used = u128::from(self.last.cpu.checked_sub(cpu)?);
        let nanocores = used * 1000 / u128::from(window_ms);
        Some(Usage {
            time_ms: self.last.time_ms,
            window_ms,
            nanocores: u64::try_from(nanocores).ok()?,
            memory: self.last.memory,
        })
    }
}

/// A pod that is bound to the node which speaks of it.
pub(super) struct BoundPod {
    pub(super) uid: Box<str>,
    /// The names of its containers, of all kinds.
    pub(super) containers: HashSet<Box<str>>,
}

/// A sample that is being put together.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    time_ms: Option<i64>,
    cpu: Option<u64>,
    memory: Option<u64>,
    start_ms: Option<i64>,
}

impl Parts {
    fn take(&mut self, metric: Metric, value: f64, time_ms: Option<i64>) {
        match metric {
            Metric::NodeCpu | Metric::ContainerCpu => {
                self.cpu = whole(value * 1e9);
                self.time_ms = time_ms;
            }
            Metric::NodeMemory | Metric::ContainerMemory => self.memory = whole(value),
            Metric::ContainerStart => {
                self.start_ms = whole(value * 1e3).and_then(|start| i64::try_from(start).ok());
            }
        }
    }

    fn point(&self, now_ms: i64) -> Option<Point> {
        Some(Point {
            time_ms: self.time_ms.unwrap_or(now_ms),
            cpu: self.cpu?,
            memory: self.memory?,
        })
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is checked to be within the range"
)]
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..=MAX_NANOS).contains(&value)).then_some(value as u64)
}

/// What a node has said.
#[derive(Debug)]
pub(super) struct NodeRecord {
    uid: Box<str>,
    seen: Instant,
    node: Option<Series>,
    /// By the UID of the pod, then the name of the container.
    pods: HashMap<Box<str>, HashMap<Box<str>, Series>>,
}

impl NodeRecord {
    pub(super) fn new(uid: &str, now: Instant) -> Self {
        Self {
            uid: uid.into(),
            seen: now,
            node: None,
            pods: HashMap::new(),
        }
    }

    /// The UID of the node.
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// When the node has answered last.
    pub(super) fn seen(&self) -> Instant {
        self.seen
    }

    /// What the node uses.
    pub(super) fn node(&self) -> Option<Usage> {
        self.node?.usage()
    }

    /// What each container of a pod uses; none when one of them has not been seen long enough.
    pub(super) fn pod(&self, uid: &str) -> Option<Vec<(&str, Usage)>> {
        let containers = self.pods.get(uid)?.iter();
        let usages = containers.map(|(name, series)| Some((&**name, series.usage()?)));
        let mut usages = usages.collect::<Option<Vec<_>>>()?;
        usages.sort_unstable_by_key(|(name, _)| *name);
        (!usages.is_empty()).then_some(usages)
    }

    /// Takes an answer. `bound` finds a pod by namespace and name, if it is bound to this node; what is said of others,
    /// and of containers that the pod does not have, is dropped.
    pub(super) fn take(
        &mut self,
        text: &str,
        (now, now_ms): (Instant, i64),
        bound: impl Fn(&str, &str) -> Option<BoundPod>,
    ) {
        let mut node = Parts::default();
        let mut known: HashMap<(String, String), BoundPod> = HashMap::new();
        let mut parts: HashMap<Box<str>, HashMap<Box<str>, Parts>> = HashMap::new();
        for line in exposition::lines(text) {
            match line.metric {
                Metric::NodeCpu | Metric::NodeMemory => {
                    node.take(line.metric, line.value, line.time_ms);
                    continue;
                }
                Metric::ContainerCpu | Metric::ContainerMemory | Metric::ContainerStart => {}
            }
            let key = (line.namespace.into_owned(), line.pod.into_owned());
            if !known.contains_key(&key) {
                let Some(pod) = bound(&key.0, &key.1) else {
                    continue;
                };
                known.insert(key.clone(), pod);
            }
            let Some(pod) = known.get(&key) else {
                continue;
            };
            if pod.containers.contains(&*line.container) {
                let containers = parts.entry(pod.uid.clone()).or_default();
                let parts = containers
                    .entry(line.container.as_ref().into())
                    .or_default();
                parts.take(line.metric, line.value, line.time_ms);
            }
        }
        self.seen = now;
        if let Some(point) = node.point(now_ms) {
            put(&mut self.node, None, point);
        }
        let mut before = std::mem::take(&mut self.pods);
        for (uid, containers) in parts {
            let mut before = before.remove(&uid).unwrap_or_default();
            let series = containers.into_iter().filter_map(|(name, parts)| {
                let point = parts.point(now_ms)?;
                let mut series = before.remove(&name);
                put(&mut series, parts.start_ms, point);
                Some((name, series?))
            });
            self.pods.insert(uid, series.collect());
        }
    }
}

fn put(series: &mut Option<Series>, start_ms: Option<i64>, point: Point) {
    match series {
        Some(series) => series.observe(start_ms, point),
        None => *series = Some(Series::new(start_ms, point)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(namespace: &str, pod: &str) -> Option<BoundPod> {
        (namespace == "ns" && pod == "mine").then(|| BoundPod {
            uid: "u".into(),
            containers: HashSet::from(["c".into(), "d".into()]),
        })
    }

    fn text(time: i64, cpu: f64, container: &str, pod: &str, start: f64) -> String {
        format!(
            "node_cpu_usage_seconds_total {cpu} {time}\n\
             node_memory_working_set_bytes 1048576 {time}\n\
             container_start_time_seconds{{container=\"{container}\",namespace=\"ns\",pod=\"{pod}\"}} {start}\n\
             container_cpu_usage_seconds_total{{container=\"{container}\",namespace=\"ns\",pod=\"{pod}\"}} {cpu} {time}\n\
             container_memory_working_set_bytes{{container=\"{container}\",namespace=\"ns\",pod=\"{pod}\"}} 2048 {time}\n"
        )
    }

    fn record(answers: &[String]) -> NodeRecord {
        let now = Instant::now();
        let mut record = NodeRecord::new("n", now);
        for answer in answers {
            record.take(answer, (now, 5000), bound);
        }
        record
    }

    #[test]
    fn a_rate_needs_two_samples() {
        let record = record(&[
            text(10_000, 1.0, "c", "mine", 1.0),
            text(25_000, 4.0, "c", "mine", 1.0),
        ]);
        let usage = Usage {
            time_ms: 25_000,
            window_ms: 15_000,
            nanocores: 200_000_000,
            memory: 1 << 20,
        };
        assert_eq!(record.node(), Some(usage));
        let container = Usage {
            memory: 2048,
            ..usage
        };
        assert_eq!(record.pod("u"), Some(vec![("c", container)]));
    }

    #[test]
    fn a_container_with_one_sample_counts_from_its_start() {
        let once = record(&[text(11_000, 1.0, "c", "mine", 1.0)]);
        assert_eq!(once.node(), None);
        let usages = once.pod("u").unwrap();
        assert_eq!(
            (usages[0].1.window_ms, usages[0].1.nanocores),
            (10_000, 100_000_000)
        );
        // The same sample again says nothing new.
        let again = record(&[
            text(11_000, 1.0, "c", "mine", 1.0),
            text(11_000, 1.0, "c", "mine", 1.0),
        ]);
        assert_eq!(again.pod("u"), once.pod("u"));
        let unknown = record(&[text(11_000, 1.0, "c", "mine", 0.0)]);
        assert_eq!(unknown.pod("u"), None);
    }

    #[test]
    fn a_restart_begins_anew() {
        for second in [
            text(25_000, 4.0, "c", "mine", 20.0),
            text(25_000, 0.5, "c", "mine", 20.0),
        ] {
            let record = record(&[text(10_000, 1.0, "c", "mine", 1.0), second]);
            assert_eq!(record.pod("u").unwrap()[0].1.window_ms, 5000);
        }
        // A clock that was set back does not stop the node for ever.
        let record = record(&[
            text(99_000, 1.0, "c", "mine", 1.0),
            text(10_000, 2.0, "c", "mine", 1.0),
            text(20_000, 3.0, "c", "mine", 1.0),
        ]);
        assert_eq!(record.node().unwrap().time_ms, 20_000);
    }

    #[test]
    fn nothing_is_believed_of_pods_of_others_or_made_up_containers() {
        let record = record(&[
            text(10_000, 1.0, "c", "others", 1.0),
            text(25_000, 4.0, "made-up", "mine", 1.0),
        ]);
        assert!(record.pods.is_empty(), "{record:?}");
    }

    #[test]
    fn a_container_that_is_gone_is_forgotten() {
        let record = record(&[
            text(10_000, 1.0, "c", "mine", 1.0),
            text(25_000, 4.0, "d", "mine", 1.0),
        ]);
        let names: Vec<&str> = record.pod("u").unwrap().iter().map(|(n, _)| *n).collect();
        assert_eq!(names, ["d"]);
    }

    proptest! {
        #[test]
        fn numbers_of_any_kind_make_no_panic(
            samples in prop::collection::vec((any::<i64>(), any::<f64>(), any::<f64>()), 0..6)
        ) {
            let answers: Vec<String> = samples
                .iter()
                .map(|(time, cpu, start)| text(*time, *cpu, "c", "mine", *start))
                .collect();
            let record = record(&answers);
            let _ = (record.node(), record.pod("u"));
        }

        #[test]
        fn any_text_makes_no_panic(text in any::<String>()) {
            let _ = record(&[text]);
        }
    }
}
