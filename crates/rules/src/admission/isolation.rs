//! A namespace's floor of isolation: `node.berth.dev/minimum-isolation: process|sandbox|vm`.
//!
//! A pod gets the demand of its namespace as an annotation of its own, which scheduler and node go by; it may bring a stronger
//! one. Existing pods are not touched when the demand grows, but no ephemeral container is added to one that is too weak.
//! Raising a demand is open to whoever may write the namespace; lowering it is not ([`lowers`]).

use berth_core::isolation::{
    Isolation, MINIMUM, NodeHandlers, RunsBy, Shortfall, Unclear, level, reaches,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thiserror::Error;

/// Why a pod is not admitted; a 403 whose message is `pods "name" is forbidden: ` and this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// What the namespace demands can't be read, so nothing is known to be enough.
    #[error("pod rejected: namespace {namespace:?} admits no pod until its {what}")]
    NamespaceUnclear {
        /// The namespace.
        namespace: String,
        /// What is wrong with it.
        what: Correction,
    },
    /// What the pod itself demands can't be read.
    #[error("pod rejected: {0}")]
    PodUnclear(Unclear),
    /// What the class declares can't be read.
    #[error("pod rejected: RuntimeClass {class:?}: {unclear}")]
    ClassUnclear {
        /// The class.
        class: String,
        /// What is wrong with it.
        unclear: Unclear,
    },
    /// Too weak.
    #[error(
        "pod rejected: {runs_by} isolates by {found}, and {who} demands at least {minimum} (annotation {MINIMUM})"
    )]
    Weaker {
        /// The class, or "a pod without RuntimeClass".
        runs_by: String,
        /// What there is.
        found: Isolation,
        /// Who demands more.
        who: String,
        /// What is demanded.
        minimum: Isolation,
    },
    /// Nobody says how strong it is.
    #[error(
        "pod rejected: nobody knows how {runs_by} (handler {handler:?}) isolates, and {who} demands at least {minimum} (annotation {MINIMUM}); \
         an administrator declares it by the annotation {declared} of the class", declared = berth_core::isolation::DECLARED
    )]
    Unknown {
        /// The class.
        runs_by: String,
        /// Its handler.
        handler: String,
        /// Who demands it.
        who: String,
        /// What is demanded.
        minimum: Isolation,
    },
}

/// How an annotation has to be corrected, as the rest of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Correction {
    /// A value that is none.
    #[error("annotation {key} is one of process, sandbox, vm (it is {value:?})")]
    Value {
        /// The annotation.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// It is a label.
    #[error("label {0} is removed: it has no effect, the annotation of this name has")]
    Label(&'static str),
}

impl From<Unclear> for Correction {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Value { key, value } => Self::Value { key, value },
            Unclear::Label(key) => Self::Label(key),
        }
    }
}

/// What a namespace demands of its pods.
///
/// # Errors
/// [`Rejection::NamespaceUnclear`].
pub fn of_namespace(meta: &ObjectMeta) -> Result<Option<Isolation>, Rejection> {
    level(meta, MINIMUM).map_err(|unclear| Rejection::NamespaceUnclear {
        namespace: meta.name.clone().unwrap_or_default(),
        what: unclear.into(),
    })
}

/// Gives a new pod the demand of its namespace, unless it brings a stronger one.
///
/// # Errors
/// [`Rejection::PodUnclear`].
pub fn give(pod: &mut Pod, floor: Option<Isolation>) -> Result<(), Rejection> {
    let own = level(&pod.metadata, MINIMUM).map_err(Rejection::PodUnclear)?;
    if let Some(minimum) = floor.max(own).filter(|minimum| Some(*minimum) != own) {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(MINIMUM.to_owned(), minimum.to_string());
    }
    Ok(())
}

/// Restores the demand that a pod was created with: it never changes.
pub fn restore(meta: &mut ObjectMeta, old: &ObjectMeta) {
    let before = old.annotations.as_ref().and_then(|a| a.get(MINIMUM));
    match before {
        Some(before) => {
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(MINIMUM.to_owned(), before.clone());
        }
        None => {
            if let Some(annotations) = &mut meta.annotations {
                annotations.remove(MINIMUM);
            }
            meta.annotations
                .take_if(|annotations| annotations.is_empty());
        }
    }
}

/// Whether the demand of a pod is another than before, or stands where nothing looks for it, as it did not before.
#[must_use]
pub fn is_another(meta: &ObjectMeta, old: &ObjectMeta) -> bool {
    fn demand(meta: &ObjectMeta) -> Option<&String> {
        meta.annotations.as_ref()?.get(MINIMUM)
    }
    let is_labelled = |meta: &ObjectMeta| {
        let labels = meta.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(MINIMUM))
    };
    demand(meta) != demand(old) || (is_labelled(meta) && !is_labelled(old))
}

/// Whether an update lets code run that did not before: another image, or the end of a scheduling gate.
#[must_use]
pub fn runs_anew(new: &Pod, old: &Pod) -> bool {
    fn images(pod: &Pod) -> Vec<Option<&str>> {
        let containers = pod.spec.iter().flat_map(|spec| {
            let init = spec.init_containers.iter().flatten();
            init.chain(&spec.containers)
        });
        containers.map(|c| c.image.as_deref()).collect()
    }
    let gates = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let gates = spec.and_then(|spec| spec.scheduling_gates.as_ref());
        gates.map_or(0, Vec::len)
    };
    images(new) != images(old) || gates(new) < gates(old)
}

/// Whether a pod can be kept apart as much as its namespace and it itself demand; `nodes` are those that it may get to.
///
/// # Errors
/// [`Rejection`].
pub fn check<'n>(
    meta: &ObjectMeta,
    floor: Option<Isolation>,
    runs_by: RunsBy<'_>,
    nodes: impl IntoIterator<Item = &'n NodeHandlers>,
) -> Result<(), Rejection> {
    let own = level(meta, MINIMUM).map_err(Rejection::PodUnclear)?;
    let Some(minimum) = floor.max(own) else {
        return Ok(());
    };
    let who = || {
        if floor == Some(minimum) {
            format!(
                "namespace {:?}",
                meta.namespace.as_deref().unwrap_or_default()
            )
        } else {
            "the pod".to_owned()
        }
    };
    reaches(runs_by, minimum, nodes).map_err(|shortfall| match shortfall {
        Shortfall::Weaker(found) => Rejection::Weaker {
            runs_by: runs_by.to_string(),
            found,
            who: who(),
            minimum,
        },
        Shortfall::Unknown => Rejection::Unknown {
            runs_by: runs_by.to_string(),
            handler: runs_by.handler.to_owned(),
            who: who(),
            minimum,
        },
    })
}

/// How much is demanded, as a number: what cannot be read demands more than all else.
fn rank(demand: &Result<Option<Isolation>, Unclear>) -> u8 {
    match demand {
        Ok(None | Some(Isolation::Process)) => 0,
        Ok(Some(Isolation::Sandbox)) => 1,
        Ok(Some(Isolation::Vm)) => 2,
        Err(_) => 3,
    }
}

/// Whether an update lets a namespace demand less than before.
#[must_use]
pub fn lowers(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    rank(&level(new, MINIMUM)) < rank(&level(old, MINIMUM))
}

/// Whether an update lets a namespace demand more than before.
#[must_use]
pub fn raises(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    rank(&level(new, MINIMUM)) > rank(&level(old, MINIMUM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(
            json!({"name": "n", "namespace": "n", "annotations": {MINIMUM: value}}),
        )
        .unwrap()
    }

    fn pod(value: Value) -> Pod {
        let annotations = if value.is_null() {
            json!({})
        } else {
            json!({MINIMUM: value})
        };
        serde_json::from_value(json!({"metadata": {"namespace": "n", "annotations": annotations}, "spec": {"containers": []}})).unwrap()
    }

    #[test]
    fn another_image_and_the_end_of_a_gate_run_anew() {
        let pod = |images: &[&str], gates: usize| -> Pod {
            let containers: Vec<Value> = images
                .iter()
                .enumerate()
                .map(|(i, image)| json!({"name": format!("c{i}"), "image": image}))
                .collect();
            let gates = vec![json!({"name": "example.com/a"}); gates];
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers, "schedulingGates": gates}}))
                .unwrap()
        };
        let old = pod(&["a", "b"], 1);
        assert!(!runs_anew(&old, &old));
        assert!(runs_anew(&pod(&["a", "c"], 1), &old));
        assert!(runs_anew(&pod(&["a", "b"], 0), &old));
        assert!(!runs_anew(&pod(&["a", "b"], 1), &pod(&["a", "b"], 0)));
    }

    #[test]
    fn a_pod_gets_the_stronger_of_two_demands() {
        use Isolation::{Process, Sandbox, Vm};
        for (own, floor, want) in [
            (json!(null), None, None),
            (json!(null), Some(Sandbox), Some("sandbox")),
            (json!("process"), Some(Vm), Some("vm")),
            (json!("vm"), Some(Sandbox), Some("vm")),
            (json!("sandbox"), None, Some("sandbox")),
            (json!(null), Some(Process), Some("process")),
        ] {
            let mut pod = pod(own.clone());
            give(&mut pod, floor).unwrap();
            let got = pod.metadata.annotations.unwrap_or_default();
            assert_eq!(
                got.get(MINIMUM).map(String::as_str),
                want,
                "{own} {floor:?}"
            );
        }
        let refused = give(&mut pod(json!("strong")), None).unwrap_err();
        assert!(matches!(refused, Rejection::PodUnclear(_)), "{refused}");
    }

    #[test]
    fn the_demand_of_a_pod_stays() {
        let old = meta(json!("vm"));
        for new in [json!("process"), json!("vm")] {
            let mut new = meta(new);
            restore(&mut new, &old);
            assert!(!is_another(&new, &old));
        }
        let mut gone = ObjectMeta::default();
        assert!(is_another(&gone, &old));
        restore(&mut gone, &old);
        assert!(!is_another(&gone, &old));
        // One that had none gets none.
        let none = ObjectMeta::default();
        let mut new = meta(json!("vm"));
        restore(&mut new, &none);
        assert_eq!(new.annotations, None);
    }

    #[test]
    fn lowering_and_raising() {
        for (old, new, is_lower, is_higher) in [
            ("process", "sandbox", false, true),
            ("sandbox", "vm", false, true),
            ("vm", "sandbox", true, false),
            ("vm", "vm", false, false),
            ("sandbox", "process", true, false),
            // What can't be read is not to be had out of the way by anybody.
            ("quantum", "vm", true, false),
            ("vm", "quantum", false, true),
        ] {
            let (old, new) = (meta(json!(old)), meta(json!(new)));
            assert_eq!(lowers(&new, &old), is_lower, "{old:?} {new:?}");
            assert_eq!(raises(&new, &old), is_higher, "{old:?} {new:?}");
        }
        assert!(lowers(&ObjectMeta::default(), &meta(json!("sandbox"))));
        assert!(!lowers(&ObjectMeta::default(), &meta(json!("process"))));
        assert!(raises(&meta(json!("vm")), &ObjectMeta::default()));
        assert!(!raises(&meta(json!("process")), &ObjectMeta::default()));
    }

    #[test]
    fn messages() {
        let none = ObjectMeta {
            namespace: Some("n".into()),
            ..ObjectMeta::default()
        };
        let by = |class, handler| RunsBy {
            class,
            handler,
            declared: None,
        };
        let said = |meta: &ObjectMeta, floor, runs_by| {
            check(meta, floor, runs_by, []).unwrap_err().to_string()
        };
        assert_eq!(
            said(&none, Some(Isolation::Vm), by("gvisor", "runsc")),
            "pod rejected: RuntimeClass \"gvisor\" isolates by sandbox, and namespace \"n\" demands at least vm (annotation node.berth.dev/minimum-isolation)"
        );
        assert_eq!(
            said(&none, Some(Isolation::Sandbox), by("", "")),
            "pod rejected: a pod without RuntimeClass isolates by process, and namespace \"n\" demands at least sandbox (annotation node.berth.dev/minimum-isolation)"
        );
        assert_eq!(
            said(
                &meta(json!("vm")),
                Some(Isolation::Sandbox),
                by("odd", "odd")
            ),
            "pod rejected: nobody knows how RuntimeClass \"odd\" (handler \"odd\") isolates, and the pod demands at least vm \
             (annotation node.berth.dev/minimum-isolation); an administrator declares it by the annotation node.berth.dev/isolation of the class"
        );
        let mut unclear = meta(json!("vmm"));
        assert_eq!(
            of_namespace(&unclear).unwrap_err().to_string(),
            "pod rejected: namespace \"n\" admits no pod until its annotation node.berth.dev/minimum-isolation is one of process, sandbox, vm (it is \"vmm\")"
        );
        unclear.labels = Some([(MINIMUM.to_owned(), "vm".to_owned())].into());
        assert_eq!(
            of_namespace(&unclear).unwrap_err().to_string(),
            "pod rejected: namespace \"n\" admits no pod until its label node.berth.dev/minimum-isolation is removed: it has no effect, the annotation of this name has"
        );
    }
}
