//! From manifests and objects to facts.

use berth_api::runtimeclass::{self, GROUP, Version};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CLUSTER, Facts, Kind, Placed, Problem, Workload, fields, nodes, text};
use berth_core::advice::Advice;
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
            for item in items.iter().filter(|item| item.is_object()) {
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
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let title = format!("{kind} {name}");
        if let Some(advice) = fields::wrong_group(&version, &kind) {
            return self
                .found
                .extend(Problem::advised(place, &title, vec![advice]));
        }
        match (fields::group_of(&version), kind.as_str()) {
            (GROUP, "RuntimeClass") => self.add_class(place, &version, object, live),
            ("", "Pod") => self.add_pod(place, "Pod", &object, "spec", live),
            ("", "Namespace") => {
                if let Some(it) = self.read::<Namespace>(place, &title, &object, "spec", live) {
                    let name = it.metadata.name.clone();
                    self.namespaces
                        .retain(|n| n.place != CLUSTER || n.it.metadata.name != name);
                    self.namespaces.push(placed(place, it));
                }
            }
            ("", "ResourceQuota") => {
                let read = self.read::<ResourceQuota>(place, &title, &object, "spec", live);
                if let Some(mut quota) = read {
                    let namespace = &mut quota.metadata.namespace;
                    namespace.get_or_insert_with(|| "default".to_owned());
                    let of =
                        |q: &ResourceQuota| (q.metadata.namespace.clone(), q.metadata.name.clone());
                    self.quotas
                        .retain(|q| q.place != CLUSTER || of(&q.it) != of(&quota));
                    self.quotas.push(placed(place, quota));
                }
            }
            ("", "Node") => {
                if let Some(node) = self.read::<Node>(place, &title, &object, "spec", live) {
                    let name = node.metadata.name.clone().unwrap_or_default();
                    self.nodes.retain(|n| n.node.is_none() || n.name != name);
                    self.nodes.push(nodes::facts(node));
                }
            }
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
            | ("", "ReplicationController")
            | ("batch", "Job") => self.add_pod(place, &kind, &object, "spec.template.spec", live),
            ("batch", "CronJob") => {
                let at = "spec.jobTemplate.spec.template.spec";
                self.add_pod(place, "CronJob", &object, at, live);
            }
            _ => {}
        }
    }

    /// An object as its type; what the type lacks is told of files. `at`: where in the object's own file it stands.
    fn read<T: DeserializeOwned>(
        &mut self,
        place: &str,
        title: &str,
        object: &Value,
        at: &str,
        live: bool,
    ) -> Option<T> {
        match berth_api::decode::decode(object) {
            Ok(decoded) => {
                if !live {
                    let unknown = fields::unknown(&decoded.unknown_fields, at);
                    self.found.extend(Problem::advised(place, title, unknown));
                }
                Some(decoded.object)
            }
            Err(error) => {
                self.found.push(Problem::new(
                    place,
                    title,
                    Kind::PodRejected,
                    error.to_string(),
                    "correct the field",
                ));
                None
            }
        }
    }

    fn add_class(&mut self, place: &str, version: &str, object: Value, live: bool) {
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
        let decoded = match berth_api::decode::decode::<RuntimeClass>(&converted) {
            Ok(decoded) => decoded,
            Err(error) => return invalid(error.to_string()),
        };
        let class = decoded.object;
        for error in class.validate() {
            invalid(error.to_string());
        }
        if !live {
            let unknown = fields::unknown(&decoded.unknown_fields, "spec");
            self.found.extend(Problem::advised(place, &title, unknown));
            let before = self
                .classes
                .iter()
                .find(|c| c.it.metadata.name == class.metadata.name);
            let advice = before.and_then(|before| other_handler(before, &class));
            self.found.extend(Problem::advised(
                place,
                &title,
                advice.into_iter().collect(),
            ));
        }
        self.classes
            .retain(|c| c.it.metadata.name != class.metadata.name);
        self.classes.push(placed(place, class));
    }

    fn add_pod(&mut self, place: &str, kind: &str, object: &Value, at: &str, live: bool) {
        let template = match at.strip_suffix(".spec") {
            Some(path) => object.pointer(&format!("/{}", path.replace('.', "/"))),
            // A pod is no template of another object.
            None => Some(object),
        };
        let Some(mut body) = template.filter(|t| t.is_object()).cloned() else {
            return;
        };
        body["apiVersion"] = "v1".into();
        body["kind"] = "Pod".into();
        let metadata = &object["metadata"];
        let own = metadata["name"].as_str().unwrap_or_default();
        let title = format!("{kind} {own}");
        let Some(mut pod) = self.read::<Pod>(place, &title, &body, at, live) else {
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
        let (name, namespace) = (pod.metadata.name.clone(), namespace_of(&pod));
        self.workloads.retain(|w| {
            let is_same = w.it.kind == kind
                && w.it.pod.metadata.name == name
                && namespace_of(&w.it.pod) == namespace;
            w.place != CLUSTER || !is_same
        });
        let number = |name: &str| object["spec"][name].as_i64();
        let replicas = match kind {
            "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
                number("replicas").unwrap_or(1)
            }
            "Job" => {
                let parallel = number("parallelism").unwrap_or(1);
                number("completions").map_or(parallel, |all| all.min(parallel))
            }
            _ => 1,
        };
        let workload = Workload {
            kind: kind.to_owned(),
            pod,
            admitted: live && kind == "Pod",
            replicas,
            at: at.to_owned(),
        };
        self.workloads.push(placed(place, workload));
    }
}

fn placed<T>(place: &str, it: T) -> Placed<T> {
    Placed {
        place: place.to_owned(),
        it,
    }
}

/// A pod's namespace, as a server would take it.
pub(super) fn namespace_of(pod: &Pod) -> &str {
    match text(&pod.metadata.namespace) {
        "" => "default",
        namespace => namespace,
    }
}

/// What is told when a class was there before with another handler.
fn other_handler(before: &Placed<RuntimeClass>, class: &RuntimeClass) -> Option<Advice> {
    let old = &before.it.handler;
    (*old != class.handler).then(|| {
        if before.place == CLUSTER {
            Advice::HandlerChanged {
                handler: class.handler.clone(),
                cluster: old.clone(),
            }
        } else {
            Advice::Twice {
                handler: old.clone(),
                place: before.place.clone(),
                other: class.handler.clone(),
            }
        }
    })
}
