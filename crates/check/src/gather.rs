//! From manifests and objects to facts.

use std::collections::BTreeMap;

use berth_api::runtimeclass::{self, GROUP, Version};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Facts, HandlerFact, Kind, NodeFacts, Placed, Problem, Workload};
use berth_core::annotations::BROKEN_HANDLERS;
use berth_rules::Rules;

impl Facts {
    /// Adds what a file of manifests holds. That it cannot be read is a problem like others.
    pub fn add_manifest(&mut self, file: &str, text: &str) {
        let read: Result<Vec<Value>, String> = if text.trim_start().starts_with('{') {
            serde_json::from_str(text)
                .map(|one| vec![one])
                .map_err(|e| e.to_string())
        } else {
            serde_saphyr::from_multiple(text).map_err(|e| e.to_string())
        };
        match read {
            Ok(documents) => {
                for document in documents {
                    self.add_object(file, document, false);
                }
            }
            Err(reason) => self.found.push(Problem::new(
                file,
                "file",
                Kind::Unreadable,
                format!(
                    "not valid YAML or JSON: {}",
                    reason.lines().next().unwrap_or_default()
                ),
                "correct the file",
            )),
        }
    }

    /// Adds an object, or the items of a list. `live`: it comes from a cluster.
    pub fn add_object(&mut self, place: &str, object: Value, live: bool) {
        if let Some(items) = object.get("items").and_then(Value::as_array) {
            for item in items {
                let mut item = item.clone();
                for field in ["apiVersion", "kind"] {
                    if item.get(field).is_none() {
                        let of_list = object[field].as_str().unwrap_or_default();
                        item[field] = of_list.strip_suffix("List").unwrap_or(of_list).into();
                    }
                }
                self.add_object(place, item, live);
            }
            return;
        }
        let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let group = version.rsplit_once('/').map_or("", |(g, _)| g).to_owned();
        match (group.as_str(), object["kind"].as_str().unwrap_or_default()) {
            (GROUP, "RuntimeClass") => self.add_class(place, &version, object),
            ("", "Pod") => self.add_pod(place, "Pod", &object["metadata"], &object, live),
            ("", "Namespace") => {
                if let Some(it) = self.read(place, "Namespace", &object) {
                    self.namespaces.push(Placed {
                        place: place.to_owned(),
                        it,
                    });
                }
            }
            ("", "ResourceQuota") => {
                if let Some(mut quota) = self.read::<k8s_openapi::api::core::v1::ResourceQuota>(
                    place,
                    "ResourceQuota",
                    &object,
                ) {
                    quota
                        .metadata
                        .namespace
                        .get_or_insert_with(|| "default".to_owned());
                    self.quotas.push(quota);
                }
            }
            ("", "Node") => {
                if let Some(node) = self.read(place, "Node", &object) {
                    self.nodes.push(node_facts(node));
                }
            }
            (
                _,
                kind @ ("Deployment"
                | "StatefulSet"
                | "DaemonSet"
                | "ReplicaSet"
                | "ReplicationController"
                | "Job"),
            ) => {
                self.add_pod(
                    place,
                    kind,
                    &object["metadata"],
                    &object["spec"]["template"],
                    false,
                );
            }
            (_, "CronJob") => {
                let template = &object["spec"]["jobTemplate"]["spec"]["template"];
                self.add_pod(place, "CronJob", &object["metadata"], template, false);
            }
            _ => {}
        }
    }

    fn read<T: DeserializeOwned>(&mut self, place: &str, kind: &str, object: &Value) -> Option<T> {
        match berth_api::decode::from_value(object) {
            Ok(it) => Some(it),
            Err(error) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                self.found.push(Problem::new(
                    place,
                    &format!("{kind} {name}"),
                    Kind::PodRejected,
                    error.to_string(),
                    "correct the field",
                ));
                None
            }
        }
    }

    fn add_class(&mut self, place: &str, version: &str, object: Value) {
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let title = format!("RuntimeClass {name}");
        if Version::parse(version).is_some_and(|v| v != Version::V1) {
            self.found.push(Problem::new(
                place,
                &title,
                Kind::OldVersion,
                format!("is of {version}, which stock clusters no longer take"),
                "run berth migrate on the file",
            ));
        }
        let mut invalid = |message: String| {
            self.found.push(Problem::new(
                place,
                &title,
                Kind::InvalidClass,
                message,
                "correct the field; every API server refuses the class as it is",
            ));
        };
        let converted = match runtimeclass::convert(object, Version::V1) {
            Ok(converted) => converted,
            Err(error) => return invalid(error.to_string()),
        };
        let class: k8s_openapi::api::node::v1::RuntimeClass =
            match berth_api::decode::from_value(&converted) {
                Ok(class) => class,
                Err(error) => return invalid(error.to_string()),
            };
        for error in class.validate() {
            invalid(error.to_string());
        }
        self.classes
            .retain(|c| c.it.metadata.name != class.metadata.name);
        self.classes.push(Placed {
            place: place.to_owned(),
            it: class,
        });
    }

    fn add_pod(&mut self, place: &str, kind: &str, metadata: &Value, template: &Value, live: bool) {
        let mut body = template.clone();
        if !body.is_object() {
            return;
        }
        body["apiVersion"] = "v1".into();
        body["kind"] = "Pod".into();
        let Some(mut pod) = self.read::<Pod>(place, kind, &body) else {
            return;
        };
        let field = |name: &str| metadata[name].as_str().map(str::to_owned);
        pod.metadata.name = field("name").or_else(|| field("generateName"));
        pod.metadata.namespace = field("namespace");
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        pod.default();
        self.workloads.push(Placed {
            place: place.to_owned(),
            it: Workload {
                kind: kind.to_owned(),
                pod,
                admitted: live,
            },
        });
    }
}

fn node_facts(node: Node) -> NodeFacts {
    let reported = node
        .status
        .as_ref()
        .and_then(|s| s.runtime_handlers.as_deref())
        .unwrap_or_default();
    let annotations = node.metadata.annotations.as_ref();
    let broken: BTreeMap<String, String> = annotations
        .and_then(|a| serde_json::from_str(a.get(BROKEN_HANDLERS)?).ok())
        .unwrap_or_default();
    let broken = broken.into_iter().map(|(name, reason)| {
        let fact = HandlerFact {
            broken: Some(reason),
            configured: true,
        };
        (name, fact)
    });
    let handlers: BTreeMap<String, HandlerFact> = reported
        .iter()
        .map(|h| (h.name.clone().unwrap_or_default(), HandlerFact::default()))
        .chain(broken)
        .collect();
    NodeFacts {
        name: node.metadata.name.clone().unwrap_or_default(),
        handlers: (!handlers.is_empty()).then_some(handlers),
        node: Some(node),
    }
}
