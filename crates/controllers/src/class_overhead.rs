//! Classes whose declared overhead is far from what their pods cost: an event, and an annotation of the class while it lasts.
//!
//! Nodes measure (docs/overhead.md) and write nothing: they may not write RuntimeClasses, and could not be believed about other
//! nodes if they did. This controller asks each node with pods of a class for its report, as `nodes/NAME/proxy`, and says of each
//! node by name what it reported. A report counts for its node only, and only for classes that pods bound to it have.

mod ask;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use berth_api::quantity::Quantity;
use berth_cost::{Declared, NodeReport, judge};
use berth_supervise::{Brief, Outage};
use berth_workloads::Event;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Reflected;
use crate::record::Recorder;

pub use ask::{AskError, ask};
pub use berth_core::annotations::MEASURED_OVERHEAD as ANNOTATION;
pub use tell::{cores, mebibytes};

/// Nodes are asked so often.
const PERIOD: Duration = Duration::from_secs(300);
/// One that does not measure (a stock kubelet) is asked again after this.
const NOT_MEASURED: Duration = Duration::from_secs(3600);
/// So many nodes are asked at a time.
const AT_A_TIME: usize = 8;

/// What is known of each class, by node: how it was told.
type Told = BTreeMap<String, BTreeMap<String, String>>;

/// Runs until `shutdown`. The first look is a `period` away.
pub async fn run(
    client: Client,
    nodes: Reflected<Node>,
    pods: Reflected<Pod>,
    period: Option<Duration>,
    shutdown: CancellationToken,
) {
    let mut controller = Controller {
        classes: Api::all(client.clone()),
        recorder: Recorder::new(client.clone(), "runtimeclass-overhead-controller"),
        client,
        told: Told::new(),
        silent: HashMap::new(),
    };
    let mut outage =
        Outage::new("cannot compare the overhead of RuntimeClasses with what is measured");
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period.unwrap_or(PERIOD)) => {}
        }
        match controller.look(&nodes.all(), &pods.all()).await {
            Ok(()) => outage.works(),
            Err(error) => drop(outage.failed(Brief(&error))),
        }
    }
}

struct Controller {
    client: Client,
    classes: Api<RuntimeClass>,
    recorder: Recorder,
    told: Told,
    /// Nodes that don't measure, and when they are asked again.
    silent: HashMap<String, Instant>,
}

/// The classes of the pods that are bound to each node.
fn used(
    nodes: &[std::sync::Arc<Node>],
    pods: &[std::sync::Arc<Pod>],
) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeSet<String> = nodes.iter().map(|node| node.name_any()).collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for spec in pods.iter().filter_map(|pod| pod.spec.as_ref()) {
        if let (Some(node), Some(class)) = (&spec.node_name, &spec.runtime_class_name)
            && names.contains(node)
        {
            used.entry(node.clone()).or_default().insert(class.clone());
        }
    }
    used
}

impl Controller {
    async fn look(
        &mut self,
        nodes: &[std::sync::Arc<Node>],
        pods: &[std::sync::Arc<Pod>],
    ) -> kube::Result<()> {
        let used = used(nodes, pods);
        if used.is_empty() && self.told.is_empty() {
            return Ok(());
        }
        let classes = self.classes.list(&ListParams::default()).await?.items;
        let reports = self.reports(used.keys().cloned().collect()).await;
        let there = |node: &str| nodes.iter().any(|n| n.name_any() == node);
        self.told
            .retain(|name, _| classes.iter().any(|class| class.name_any() == *name));
        for class in &classes {
            let name = class.name_any();
            let before = match self.told.get(&name) {
                Some(told) => told.clone(),
                // After a restart: what the annotation says.
                None => tell::read(
                    class
                        .annotations()
                        .get(ANNOTATION)
                        .map_or("", String::as_str),
                ),
            };
            let of_class = |node: &str| {
                used.get(node)
                    .is_some_and(|classes| classes.contains(&name))
            };
            let reports = reports.iter().filter(|(node, _)| of_class(node));
            let now = compare(class, reports, &before, there);
            self.say(class, &before, &now).await?;
            self.told.insert(name, now);
        }
        Ok(())
    }

    async fn reports(&mut self, nodes: Vec<String>) -> BTreeMap<String, NodeReport> {
        let now = Instant::now();
        self.silent.retain(|_, until| *until > now);
        let asked: Vec<String> = nodes
            .into_iter()
            .filter(|n| !self.silent.contains_key(n))
            .collect();
        let client = &self.client;
        let answers = futures::stream::iter(asked).map(|node| async move {
            let answer = ask(client, &node).await;
            (node, answer)
        });
        let mut answers = answers.buffer_unordered(AT_A_TIME);
        let mut reports = BTreeMap::new();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(report) => drop(reports.insert(node, report)),
                Err(AskError::NotMeasured) => drop(self.silent.insert(node, now + NOT_MEASURED)),
                Err(error) => debug!(node, %error, "no report of overhead"),
            }
        }
        reports
    }

    /// Writes what has changed. An event comes when a node differs that did not, and when none differs any more.
    async fn say(
        &mut self,
        class: &RuntimeClass,
        before: &BTreeMap<String, String>,
        now: &BTreeMap<String, String>,
    ) -> kube::Result<()> {
        let name = class.name_any();
        let text = tell::write(now);
        if class.annotations().get(ANNOTATION) != text.as_ref() {
            let patch =
                json!({"metadata": {"uid": class.uid(), "annotations": {ANNOTATION: text}}});
            let params = PatchParams {
                field_manager: Some("runtimeclass-overhead-controller".to_owned()),
                ..PatchParams::default()
            };
            match self
                .classes
                .patch_metadata(&name, &params, &Patch::Merge(patch))
                .await
            {
                Ok(_) => {}
                // It was deleted, or another of this name was made: the next look is at that one.
                Err(error) if crate::server::is_code(&error, &[404, 409, 422]) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let is_news = now.keys().any(|node| !before.contains_key(node));
        if let (true, Some(text)) = (is_news, &text) {
            let message = format!(
                "The declared overhead differs from what was measured by more than a factor of two: {text}"
            );
            let event = Event::warning("OverheadDiffers", message);
            self.recorder.record(class, &event).await;
        } else if now.is_empty() && !before.is_empty() {
            let message = "The declared overhead is near what was measured".to_owned();
            let event = Event::normal("OverheadAgrees", message);
            self.recorder.record(class, &event).await;
        }
        Ok(())
    }
}

/// What the class declares.
///
/// # Errors
/// Names the amount that can't be read: nothing is compared with it.
pub fn declared(class: &RuntimeClass) -> Result<Declared, String> {
    let fixed = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref());
    let amount = |name: &str| -> Result<Option<Quantity>, String> {
        let Some(text) = fixed.and_then(|fixed| fixed.get(name)) else {
            return Ok(None);
        };
        let quantity = text.0.parse::<Quantity>();
        quantity
            .map(Some)
            .map_err(|error| format!("overhead.podFixed[{name}]: {error}"))
    };
    let whole = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Declared {
        memory: amount("memory")?.map_or(0, |q| whole(q.value())),
        cpu: amount("cpu")?.map_or(0, |q| whole(q.milli_value()).saturating_mul(1000)),
    })
}

/// The nodes that differ, and how. One that did not answer stays as it was while it is there.
fn compare<'a>(
    class: &RuntimeClass,
    reports: impl Iterator<Item = (&'a String, &'a NodeReport)>,
    before: &BTreeMap<String, String>,
    is_there: impl Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let mut now: BTreeMap<String, String> = before.clone();
    now.retain(|node, _| is_there(node));
    let declared = match declared(class) {
        Ok(declared) => declared,
        Err(error) => {
            debug!(
                class = class.name_any(),
                error, "its overhead is not compared"
            );
            return now;
        }
    };
    for (node, report) in reports {
        let mut found = report.classes.iter();
        let name = class.name_any();
        let Some(found) = found.find(|c| c.runtime_class == name && c.handler == class.handler)
        else {
            continue;
        };
        let verdicts = judge(declared, found, before.contains_key(node));
        match tell::verdicts(&verdicts, found) {
            // In the words in which it was told first: numbers that move a little are no news.
            Some(text) => {
                let old = now.entry(node.clone()).or_insert_with(|| text.clone());
                if tell::kinds(old) != tell::kinds(&text) {
                    *old = text;
                }
            }
            None => drop(now.remove(node)),
        }
    }
    now
}

#[cfg(test)]
mod tests;
