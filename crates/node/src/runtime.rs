//! What the CRI runtime is and can do: its name, version, conditions, handlers and features.

mod containerd;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use berth_core::handlers::cannot_run;
use berth_core::isolation::Isolation;
use berth_cri_api::v1::{CgroupDriver, RuntimeConfigRequest, StatusRequest, VersionRequest};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::cri::{Cri, rpc_message};

/// How often the runtime is asked when it is well, and when it is not.
const CALM: Duration = Duration::from_secs(5);
const EAGER: Duration = Duration::from_millis(100);

/// One handler that the runtime offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) name: String,
    pub(crate) recursive_read_only_mounts: bool,
    pub(crate) user_namespaces: bool,
}

/// What is behind a handler, where the runtime tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) binary: String,
    pub(crate) version: String,
    /// How far it keeps pods apart from the node; none where nobody knows.
    pub(crate) isolation: Option<Isolation>,
}

/// The runtime's latest word about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) version: String,
    /// `Err` says why the runtime or its network is not ready.
    pub(crate) ready: Option<Result<(), String>>,
    /// Empty when the runtime does not report handlers (CRI before 1.30).
    pub(crate) handlers: Vec<Handler>,
    pub(crate) supplemental_groups_policy: Option<bool>,
    pub(crate) systemd_cgroups: bool,
    pub(crate) behind: BTreeMap<String, Behind>,
    /// Handlers that are configured and cannot run, with the reason, where the runtime tells.
    pub(crate) broken: BTreeMap<String, String>,
    pub(crate) default_handler: String,
    /// The bridge that pods are on, or why on none; nothing before the runtime has a network.
    pub(crate) bridge: Option<Result<String, String>>,
}

impl Facts {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.ready, Some(Ok(())))
    }

    /// Whether the runtime has the handler; `None` when it does not tell.
    pub(crate) fn has_handler(&self, name: &str) -> Option<bool> {
        if name.is_empty() {
            return Some(true);
        }
        if self.handlers.is_empty() {
            return None;
        }
        Some(self.handlers.iter().any(|h| h.name == name))
    }

    /// The sentence about a handler that is configured and can't run; `None` when nobody said so.
    pub(crate) fn why_broken(&self, handler: &str) -> Option<String> {
        let reason = self.broken.get(handler)?;
        Some(cannot_run(handler, reason))
    }

    /// Whether a handler can give a pod a user namespace; with `None` whether any can.
    pub(crate) fn user_namespaces(&self, handler: Option<&str>) -> bool {
        self.handlers
            .iter()
            .any(|h| h.user_namespaces && handler.is_none_or(|name| h.name == name))
    }

    /// Whether a handler makes read-only mounts read-only all the way down.
    pub(crate) fn recursive_read_only(&self, handler: Option<&str>) -> bool {
        self.handlers
            .iter()
            .any(|h| h.recursive_read_only_mounts && Some(h.name.as_str()) == handler)
    }

    /// A handler's name for people, with what is behind it: `runsc (/usr/bin/runsc 2022)`.
    pub(crate) fn describe(&self, handler: &str) -> (String, Behind) {
        let name = if handler.is_empty() {
            self.default_handler.as_str()
        } else {
            handler
        };
        let behind = self.behind.get(name).cloned().unwrap_or_default();
        (name.to_owned(), behind)
    }
}

/// Keeps [`Facts`] fresh until `shutdown`.
pub(crate) async fn keep(cri: Cri, facts: watch::Sender<Facts>, shutdown: CancellationToken) {
    loop {
        let old = facts.borrow().clone();
        let new = ask(&cri, &old).await;
        let ready = new.is_ready();
        facts.send_if_modified(|old| {
            let changed = *old != new;
            if changed {
                if old.ready != new.ready {
                    log_readiness(&new);
                }
                *old = new;
            }
            changed
        });
        let pause = if ready { CALM } else { EAGER };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn log_readiness(facts: &Facts) {
    let (runtime, version) = (&facts.name, &facts.version);
    match &facts.ready {
        Some(Ok(())) => info!(%runtime, %version, "the CRI runtime is ready"),
        Some(Err(reason)) => info!(reason, "the CRI runtime is not ready"),
        None => info!("the CRI runtime has not said whether it is ready"),
    }
}

async fn ask(cri: &Cri, old: &Facts) -> Facts {
    let mut new = old.clone();
    let request = StatusRequest { verbose: true };
    let status = match cri.runtime().status(request).await {
        Ok(answer) => answer.into_inner(),
        Err(e) => {
            new.ready = Some(Err(format!(
                "container runtime is down: {}",
                rpc_message(&e)
            )));
            return new;
        }
    };
    if old.name.is_empty() || !old.is_ready() {
        let request = VersionRequest {
            version: "0.1.0".to_owned(),
        };
        match cri.runtime().version(request).await {
            Ok(answer) => {
                let v = answer.into_inner();
                new.name = v.runtime_name;
                new.version = v.runtime_version;
            }
            Err(e) => debug!(error = %rpc_message(&e), "CRI Version"),
        }
        if let Ok(answer) = cri.runtime().runtime_config(RuntimeConfigRequest {}).await {
            new.systemd_cgroups = answer
                .into_inner()
                .linux
                .is_some_and(|l| l.cgroup_driver == CgroupDriver::Systemd as i32);
        }
    }
    let mut problems = Vec::new();
    for condition in status.status.iter().flat_map(|s| &s.conditions) {
        if matches!(condition.r#type.as_str(), "RuntimeReady" | "NetworkReady") && !condition.status
        {
            let what = if condition.r#type == "RuntimeReady" {
                "container runtime not ready"
            } else {
                "container runtime network not ready"
            };
            problems.push(format!(
                "{what}: {}={} reason:{} message:{}",
                condition.r#type, condition.status, condition.reason, condition.message
            ));
        }
    }
    new.ready = Some(if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join(", "))
    });
    new.handlers = status
        .runtime_handlers
        .into_iter()
        .map(|h| {
            let f = h.features.unwrap_or_default();
            Handler {
                name: h.name,
                recursive_read_only_mounts: f.recursive_read_only_mounts,
                user_namespaces: f.user_namespaces,
            }
        })
        .collect();
    new.handlers.sort_by(|a, b| a.name.cmp(&b.name));
    new.supplemental_groups_policy = status.features.map(|f| f.supplemental_groups_policy);
    behind(&status.info, &mut new);
    new.bridge = network::bridge(&status.info).or(new.bridge);
    new
}

/// Reads what the verbose status says about handlers: a `handlers` entry, or containerd's `config`.
fn behind(info: &std::collections::HashMap<String, String>, facts: &mut Facts) {
    let parse = |key: &str| -> Option<Value> { serde_json::from_str(info.get(key)?).ok() };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    if let Some(told) = parse("handlers") {
        facts.default_handler = text(&told["default"]);
        facts.broken.clear();
        facts.behind.clear();
        for (name, h) in told["handlers"].as_object().into_iter().flatten() {
            if let Some(reason) = h["error"].as_str() {
                facts.broken.insert(name.clone(), reason.to_owned());
                continue;
            }
            let one = Behind {
                binary: text(&h["binary"]),
                version: text(&h["version"]),
                isolation: h["isolation"].as_str().and_then(|level| level.parse().ok()),
            };
            facts.behind.insert(name.clone(), one);
        }
    } else if let Some(config) = parse("config") {
        let containerd = &config["containerd"];
        facts.default_handler = text(&containerd["defaultRuntimeName"]);
        for (name, h) in containerd["runtimes"].as_object().into_iter().flatten() {
            let path = [
                &h["options"]["BinaryName"],
                &h["runtimePath"],
                &h["runtimeType"],
            ]
            .into_iter()
            .map(text)
            .find(|s| !s.is_empty())
            .unwrap_or_default();
            let isolation = containerd::isolation(&text(&h["runtimeType"]), &path);
            let one = Behind {
                binary: path,
                version: String::new(),
                isolation,
            };
            facts.behind.insert(name.clone(), one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_unknown_only_when_the_runtime_reports_handlers() {
        let mut facts = Facts::default();
        assert_eq!(facts.has_handler("runsc"), None);
        assert_eq!(facts.has_handler(""), Some(true));
        facts.handlers.push(Handler {
            name: "runc".into(),
            ..Handler::default()
        });
        assert_eq!(facts.has_handler("runc"), Some(true));
        assert_eq!(facts.has_handler("runsc"), Some(false));
    }

    #[test]
    fn containerd_tells_what_is_behind_a_handler() {
        let config = r#"{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{
            "runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/usr/sbin/runc"}}}}}"#;
        let info = [("config".to_owned(), config.to_owned())].into();
        let mut facts = Facts::default();
        behind(&info, &mut facts);
        let (name, b) = facts.describe("");
        assert_eq!(
            (name.as_str(), b.binary.as_str()),
            ("runc", "/usr/sbin/runc")
        );
    }

    #[test]
    fn what_cannot_run_and_what_it_would_run_in_is_told() {
        let handlers = r#"{"default":"runc","handlers":{
            "runc":{"binary":"/usr/sbin/runc","version":"1.1","isolation":"process"},
            "runsc":{"binary":"/usr/bin/runsc","version":"1","isolation":"sandbox"},
            "odd":{"binary":"/x","version":"1","isolation":"of tomorrow"},
            "kata":{"error":"no /dev/kvm"}}}"#;
        let mut facts = Facts::default();
        behind(
            &[("handlers".to_owned(), handlers.to_owned())].into(),
            &mut facts,
        );
        let sentence = facts.why_broken("kata");
        assert_eq!(
            sentence.as_deref(),
            Some("handler \"kata\" cannot run: no /dev/kvm")
        );
        assert_eq!(facts.why_broken("runc"), None);
        let wanted = [
            (String::new(), Isolation::Process),
            ("runc".to_owned(), Isolation::Process),
            ("runsc".to_owned(), Isolation::Sandbox),
        ];
        assert_eq!(facts.isolation_levels(), wanted.into());
        // What it says next holds.
        let next =
            r#"{"default":"runc","handlers":{"runc":{"binary":"/usr/sbin/runc","version":"1.1"}}}"#;
        behind(
            &[("handlers".to_owned(), next.to_owned())].into(),
            &mut facts,
        );
        assert_eq!(
            (facts.why_broken("kata"), facts.isolation_levels().len()),
            (None, 0)
        );
    }
}
