//! How many replicas the measured use of pods asks for.
//!
//! Amounts are thousandths, as in metrics.k8s.io's smallest unit. All is computed in whole numbers.

use std::collections::{BTreeMap, BTreeSet};

use berth_api::quantity::{Format, Quantity};
use berth_core::container::is_sidecar;
use berth_core::pod::{condition, phase};
use berth_core::resources::amounts;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscalerBehavior, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;

use super::Measured;
use crate::pod::count;

/// For how long after its start a pod's use of processors may be that of its start (stock:
/// `--horizontal-pod-autoscaler-cpu-initialization-period`).
const INITIAL: SignedDuration = SignedDuration::from_mins(5);
/// A pod that became unready so soon after its start has never been ready (stock:
/// `--horizontal-pod-autoscaler-initial-readiness-delay`).
const NEVER_READY: SignedDuration = SignedDuration::from_secs(30);
/// By how much the use may differ from the target without a change, in thousandths (stock: `--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: i64 = 100;

/// What one pod was measured to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUse {
    /// When.
    pub at: Timestamp,
    /// Over which time before.
    pub window: SignedDuration,
    /// Thousandths, by container and resource.
    pub containers: BTreeMap<String, BTreeMap<String, i64>>,
}

impl PodUse {
    /// Of one resource, in one container or all; nothing when that is not known.
    fn of(&self, resource: &str, container: Option<&str>) -> Option<i64> {
        match container {
            Some(name) => self.containers.get(name)?.get(resource).copied(),
            None if self.containers.is_empty() => None,
            None => self.containers.values().try_fold(0_i64, |sum, container| {
                Some(sum.saturating_add(*container.get(resource)?))
            }),
        }
    }
}

/// By how much the use may differ from the target, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    up: i64,
    down: i64,
}

impl Tolerance {
    pub(super) fn of(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Self {
        let (up, down) = behavior.map_or((None, None), |b| {
            (b.scale_up.as_ref(), b.scale_down.as_ref())
        });
        let value = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
            let wire = rules.and_then(|rules| rules.tolerance.as_ref());
            let read = wire.and_then(|wire| Quantity::try_from(wire).ok());
            read.map_or(TOLERANCE, |quantity| quantity.milli_value())
        };
        Self {
            up: value(up),
            down: value(down),
        }
    }
}

/// How many replicas a metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// The metric, for people.
    pub(super) metric: String,
    pub(super) status: MetricStatus,
}

/// Why a metric asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The reason of condition and event.
    pub(super) reason: &'static str,
    /// What failed.
    pub(super) what: String,
    pub(super) why: String,
}

/// What one metric asks for.
pub(super) fn propose(
    metric: &MetricSpec,
    current: i32,
    measured: &Measured<'_>,
    tolerance: Tolerance,
    now: Timestamp,
) -> Result<Proposal, Refusal> {
    let not_read = |reason, what: &str, name: Option<&String>, api: &str| Refusal {
        reason,
        what: format!("failed to get {what} metric value"),
        why: format!(
            "unable to get metric {}: this controller reads metrics.k8s.io only (types Resource and ContainerResource), not {api}",
            name.map_or("", String::as_str)
        ),
    };
    let custom = "custom.metrics.k8s.io";
    if let Some(resource) = &metric.resource {
        let refused = |why| Refusal {
            reason: "FailedGetResourceMetric",
            what: format!("failed to get {} resource metric value", resource.name),
            why,
        };
        let asked = Asked {
            resource: &resource.name,
            container: None,
            target: &resource.target,
        };
        let (replicas, metric, current) = asked
            .of(current, measured, tolerance, now)
            .map_err(refused)?;
        let resource = ResourceMetricStatus {
            name: resource.name.clone(),
            current,
        };
        return Ok(Proposal {
            replicas,
            metric,
            status: MetricStatus {
                type_: "Resource".to_owned(),
                resource: Some(resource),
                ..MetricStatus::default()
            },
        });
    }
    if let Some(resource) = &metric.container_resource {
        let refused = |why| Refusal {
            reason: "FailedGetContainerResourceMetric",
            what: format!(
                "failed to get {} container metric value",
                resource.container
            ),
            why,
        };
        let asked = Asked {
            resource: &resource.name,
            container: Some(&resource.container),
            target: &resource.target,
        };
        let (replicas, metric, current) = asked
            .of(current, measured, tolerance, now)
            .map_err(refused)?;
        let status = ContainerResourceMetricStatus {
            name: resource.name.clone(),
            container: resource.container.clone(),
            current,
        };
        return Ok(Proposal {
            replicas,
            metric,
            status: MetricStatus {
                type_: "ContainerResource".to_owned(),
                container_resource: Some(status),
                ..MetricStatus::default()
            },
        });
    }
    Err(if let Some(pods) = &metric.pods {
        not_read(
            "FailedGetPodsMetric",
            "pods",
            Some(&pods.metric.name),
            custom,
        )
    } else if let Some(object) = &metric.object {
        not_read(
            "FailedGetObjectMetric",
            "object",
            Some(&object.metric.name),
            custom,
        )
    } else if let Some(external) = &metric.external {
        let (name, api) = (&external.metric.name, "external.metrics.k8s.io");
        not_read("FailedGetExternalMetric", "external", Some(name), api)
    } else {
        Refusal {
            reason: "InvalidMetricSourceType",
            what: "failed to get metric value".to_owned(),
            why: format!("unknown metric source type \"{}\"", metric.type_),
        }
    })
}

/// A resource of pods or of one of their containers.
struct Asked<'a> {
    resource: &'a str,
    container: Option<&'a str>,
    target: &'a MetricTarget,
}

/// The target for each pod.
enum Target<'a> {
    /// A part of what each requests, in percent.
    Utilization {
        percent: i64,
        requests: BTreeMap<&'a str, i64>,
    },
    /// The same amount for each.
    Average(i64),
}

/// How far the use is from the target.
struct Distance {
    /// The use divided by the target.
    ratio: Ratio,
    /// In percent of the requests, where that is the target.
    utilization: Option<i64>,
    /// Of one pod.
    average: i64,
}

/// A fraction, of numbers that are not negative.
#[derive(Clone, Copy)]
struct Ratio {
    over: i128,
    under: i128,
}

impl Ratio {
    fn is_within(self, tolerance: Tolerance) -> bool {
        let thousand = 1000 * self.over;
        (1000 - i128::from(tolerance.down)) * self.under <= thousand
            && thousand <= (1000 + i128::from(tolerance.up)) * self.under
    }

    /// Less, equal, greater than one.
    fn compared(self) -> std::cmp::Ordering {
        self.over.cmp(&self.under)
    }

    /// Times a number of pods, rounded up.
    fn times(self, pods: usize) -> i32 {
        let pods = i128::from(count(pods));
        let product = (self.over * pods + self.under - 1).div_euclid(self.under);
        i32::try_from(product).unwrap_or(i32::MAX)
    }
}

impl Target<'_> {
    fn distance(&self, used: &BTreeMap<&str, i64>) -> Result<Distance, String> {
        let sum = |values: &mut dyn Iterator<Item = i64>| values.map(i128::from).sum::<i128>();
        let total = sum(&mut used.values().copied());
        let average = total / i128::try_from(used.len().max(1)).unwrap_or(1);
        let average = i64::try_from(average).unwrap_or(i64::MAX);
        match self {
            Self::Utilization { percent, requests } => {
                let requested =
                    sum(&mut used.keys().filter_map(|name| requests.get(name).copied()));
                if requested == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let utilization = total * 100 / requested;
                Ok(Distance {
                    ratio: Ratio {
                        over: utilization,
                        under: (*percent).max(1).into(),
                    },
                    utilization: Some(i64::try_from(utilization).unwrap_or(i64::MAX)),
                    average,
                })
            }
            Self::Average(target) => Ok(Distance {
                ratio: Ratio {
                    over: average.into(),
                    under: (*target).max(1).into(),
                },
                utilization: None,
                average,
            }),
        }
    }

    /// What a pod counts for of which nothing is known, when there would be fewer: as one that needs its place.
    fn full(&self, pod: &str) -> i64 {
        match self {
            Self::Utilization { percent, requests } => {
                let request = requests.get(pod).copied().unwrap_or_default();
                request.saturating_mul((*percent).max(100)) / 100
            }
            Self::Average(target) => *target,
        }
    }
}

impl Asked<'_> {
    /// The replicas, the metric for people, and what is shown of it.
    fn of(
        &self,
        current: i32,
        measured: &Measured<'_>,
        tolerance: Tolerance,
        now: Timestamp,
    ) -> Result<(i32, String, MetricValueStatus), String> {
        let resource = self.resource;
        let by_average = self.target.average_value.is_some();
        let noun = if by_average { "usage" } else { "utilization" };
        let failed = |why: String| format!("failed to get {resource} {noun}: {why}");
        let metric = match (by_average, self.container) {
            (true, _) => format!("{resource} resource"),
            (false, None) => format!("{resource} resource utilization (percentage of request)"),
            (false, Some(_)) => {
                format!("{resource} container resource utilization (percentage of request)")
            }
        };
        let (replicas, distance) = self
            .replicas(current, measured, tolerance, now)
            .map_err(failed)?;
        let shown = MetricValueStatus {
            average_utilization: distance
                .utilization
                .map(|percent| i32::try_from(percent).unwrap_or(i32::MAX)),
            average_value: Some(self.quantity(distance.average).into()),
            value: None,
        };
        Ok((replicas, metric, shown))
    }

    fn quantity(&self, milli: i64) -> Quantity {
        match self.resource {
            "memory" => Quantity::new(milli.saturating_add(999) / 1000, Format::BinarySi),
            _ => Quantity::from_milli(milli),
        }
    }

    fn replicas(
        &self,
        current: i32,
        measured: &Measured<'_>,
        tolerance: Tolerance,
        now: Timestamp,
    ) -> Result<(i32, Distance), String> {
        let unable = |why: &String| {
            format!(
                "unable to get metrics for resource {}: {why}",
                self.resource
            )
        };
        let uses = measured.uses.as_ref().map_err(unable)?;
        if measured.pods.is_empty() {
            let why = "no pods returned by selector while calculating replica count";
            return Err(why.to_owned());
        }
        let Groups {
            mut used,
            unready,
            missing,
        } = self.groups(measured.pods, uses, now);
        if used.is_empty() {
            let why = "did not receive metrics for targeted pods (pods might be unready)";
            return Err(why.to_owned());
        }
        let target = self.target_of(measured.pods)?;
        let first = target.distance(&used)?;
        let (ready, direction) = (used.len(), first.ratio.compared());
        let unready = if direction.is_gt() {
            unready
        } else {
            BTreeSet::new()
        };
        if unready.is_empty() && missing.is_empty() {
            let stays = first.ratio.is_within(tolerance);
            let replicas = if stays {
                current
            } else {
                first.ratio.times(ready)
            };
            return Ok((replicas, first));
        }
        // Those of which nothing is known must not make it go further than what is known.
        for pod in &missing {
            match direction {
                std::cmp::Ordering::Less => used.insert(pod, target.full(pod)),
                std::cmp::Ordering::Greater => used.insert(pod, 0),
                std::cmp::Ordering::Equal => None,
            };
        }
        used.extend(unready.iter().map(|pod| (*pod, 0)));
        let ratio = target.distance(&used)?.ratio;
        let turned = ratio.compared().is_gt() && direction.is_lt()
            || ratio.compared().is_lt() && direction.is_gt();
        let replicas = ratio.times(used.len());
        let against = ratio.compared().is_lt() && replicas > current
            || ratio.compared().is_gt() && replicas < current;
        let stays = ratio.is_within(tolerance) || turned || against;
        Ok((if stays { current } else { replicas }, first))
    }

    fn target_of<'p>(&self, pods: &'p [Pod]) -> Result<Target<'p>, String> {
        if let Some(wire) = &self.target.average_value {
            let quantity = Quantity::try_from(wire);
            let quantity = quantity.map_err(|error| format!("averageValue: {error}"))?;
            return Ok(Target::Average(quantity.milli_value()));
        }
        let Some(percent) = self.target.average_utilization else {
            let why = "invalid resource metric source: neither an average utilization target nor an average value \
                       (usage) target was set";
            return Err(why.to_owned());
        };
        let requests = pods.iter().map(|pod| Ok((name(pod), self.request(pod)?)));
        Ok(Target::Utilization {
            percent: percent.into(),
            requests: requests.collect::<Result<_, String>>()?,
        })
    }

    /// What a pod requests, by itself or in its containers.
    fn request(&self, pod: &Pod) -> Result<i64, String> {
        let (resource, pod_name) = (self.resource, name(pod));
        let Some(spec) = &pod.spec else {
            return Err(format!("Pod {pod_name} has no spec"));
        };
        let of_pod = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
        if let (Some(requests), None) = (of_pod.filter(|r| !r.is_empty()), self.container) {
            let known = amounts(Some(requests));
            let request = known.get(resource).map(Quantity::milli_value);
            return request.ok_or_else(|| {
                format!("missing pod-level request for {resource} in Pod {pod_name}")
            });
        }
        let init = spec.init_containers.iter().flatten();
        let sidecars = init.filter(|container| is_sidecar(container));
        let all = spec.containers.iter().chain(sidecars);
        let mut wanted = all
            .filter(|one| self.container.is_none_or(|name| one.name == name))
            .peekable();
        if let (Some(container), None) = (self.container, wanted.peek()) {
            return Err(format!("container {container} not found in Pod {pod_name}"));
        }
        wanted.try_fold(0_i64, |sum, container| {
            let requests = container
                .resources
                .as_ref()
                .and_then(|r| r.requests.as_ref());
            let request = amounts(requests).get(resource).map(Quantity::milli_value);
            let request = request.ok_or_else(|| {
                let container = &container.name;
                format!("missing request for {resource} in container {container} of Pod {pod_name}")
            })?;
            Ok(sum.saturating_add(request))
        })
    }

    fn groups<'p>(
        &self,
        pods: &'p [Pod],
        uses: &BTreeMap<String, PodUse>,
        now: Timestamp,
    ) -> Groups<'p> {
        let mut groups = Groups::default();
        for pod in pods {
            if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
                continue;
            }
            if phase(pod) == "Pending" {
                groups.unready.insert(name(pod));
                continue;
            }
            let found = uses.get(name(pod));
            let value = found.and_then(|found| found.of(self.resource, self.container));
            let (Some(found), Some(value)) = (found, value) else {
                groups.missing.insert(name(pod));
                continue;
            };
            if self.resource == "cpu" && is_starting(pod, found, now) {
                groups.unready.insert(name(pod));
            } else {
                groups.used.insert(name(pod), value);
            }
        }
        groups
    }
}

/// The target's pods, by what can be said of their use.
#[derive(Default)]
struct Groups<'a> {
    used: BTreeMap<&'a str, i64>,
    /// They use what a start uses, or nothing yet.
    unready: BTreeSet<&'a str>,
    /// They run, and nobody knows what they use.
    missing: BTreeSet<&'a str>,
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Whether what was measured of its processors may be that of its start, or of one that has never worked.
fn is_starting(pod: &Pod, found: &PodUse, now: Timestamp) -> bool {
    let start = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(start)) = (condition(pod, "Ready"), start) else {
        return true;
    };
    let since = ready
        .last_transition_time
        .as_ref()
        .map_or(start.0, |time| time.0);
    let not_ready = ready.status == "False";
    if now.duration_since(start.0) < INITIAL {
        return not_ready || found.at.duration_since(since) < found.window;
    }
    not_ready && since.duration_since(start.0) < NEVER_READY
}
