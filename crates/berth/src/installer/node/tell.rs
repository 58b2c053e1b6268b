//! What the node says: labels, the annotation, events.

use anyhow::Context as _;
use berth_installer::plan::Plan;
use berth_installer::report::{LABEL_PREFIX, Report, State, patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use tracing::{info, warn};

use super::{Installer, told_before};

/// The field manager, and who writes events.
const MANAGER: &str = "berth-installer";

impl Installer {
    /// Takes away the labels of handlers that may not be advertised, or are to become others, before anything else is done. Whether
    /// there were any.
    pub(super) async fn hide(&self, node: &Node, plan: &Plan) -> anyhow::Result<bool> {
        let gone: serde_json::Map<String, serde_json::Value> = node
            .labels()
            .keys()
            .filter(|label| {
                label.strip_prefix(LABEL_PREFIX).is_some_and(|name| {
                    !plan.advertisable.contains(name) || plan.changed.contains(name)
                })
            })
            .map(|label| (label.clone(), serde_json::Value::Null))
            .collect();
        if gone.is_empty() {
            return Ok(false);
        }
        info!(labels = ?gone.keys().collect::<Vec<_>>(), "these handlers are not advertised any more");
        self.patch(&serde_json::json!({"metadata": {"labels": gone}}))
            .await?;
        Ok(true)
    }

    pub(super) async fn patch(&self, change: &serde_json::Value) -> anyhow::Result<()> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self
            .nodes
            .patch_metadata(&self.config.node, &params, &Patch::Merge(change))
            .await;
        patched
            .map(drop)
            .with_context(|| format!("cannot change node {:?}", self.config.node))
    }

    /// Makes the node say it, and an event of what has stopped working.
    pub(super) async fn tell(&mut self, node: &Node, report: Report) -> anyhow::Result<()> {
        let before = told_before(node);
        let fresh = self
            .nodes
            .get(&self.config.node)
            .await
            .context("cannot read the node")?;
        if let Some(change) = patch(fresh.labels(), fresh.annotations(), &report) {
            self.patch(&change).await?;
        }
        for (name, line) in &report.handlers {
            let was = before.handlers.get(name).map(|line| line.state);
            if line.state == State::Broken && was != Some(State::Broken) {
                let message = format!(
                    "handler {name:?} is not advertised on this node: {}",
                    line.reason
                );
                self.event(&fresh, "HandlerBroken", "Warning", &message)
                    .await;
            } else if line.state == State::Works && was != Some(State::Works) {
                self.event(
                    &fresh,
                    "HandlerWorks",
                    "Normal",
                    &format!("handler {name:?} works on this node"),
                )
                .await;
            }
        }
        if !report.problem.is_empty() && report.problem != self.told.problem {
            self.event(&fresh, "HandlersNotInstalled", "Warning", &report.problem)
                .await;
        }
        self.told = report;
        Ok(())
    }

    pub(super) async fn event(&self, node: &Node, reason: &str, kind: &str, message: &str) {
        // Events of nodes are in the namespace default.
        let events: Api<Event> = Api::namespaced(self.config.client.clone(), "default");
        let now = Time(Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", self.config.node)),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(self.config.node.clone()),
                uid: node.uid(),
                ..ObjectReference::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            type_: Some(kind.to_owned()),
            action: Some("Install".to_owned()),
            reporting_component: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.config.node.clone()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now.clone()),
            event_time: Some(MicroTime(now.0)),
            ..Event::default()
        };
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            warn!(%error, reason, message, "cannot write an event about the node");
        }
    }
}
