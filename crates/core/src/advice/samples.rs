//! One of each kind of [`Advice`], for the table of docs/runtimeclass.md.

use super::{Advice, Effect};
use crate::annotations::DEFAULT_CLASS;
use crate::isolation::Isolation;

impl Advice {
    /// One of each kind, as the table of the documents shows them.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let text = str::to_owned;
        let some = |name: &str| Some(name.to_owned());
        let mut samples = vec![
            Self::HandlerMissing {
                handler: text("runcs"),
                nodes: 2,
                offered: vec![text("crun"), text("runsc")],
            },
            Self::HandlerBroken {
                handler: text("runsc"),
                reasons: vec![(
                    text("a trial sandbox does not run: unknown platform: systrap"),
                    1,
                )],
                nodes: 2,
            },
            Self::ClassUnplaceable {
                handler: text("runsc"),
                able: 1,
                reasons: text("1 node(s) didn't match Pod's node affinity/selector"),
                hint: String::new(),
            },
            Self::PodUnplaceable {
                class: text("gvisor"),
                handler: text("runsc"),
                nodes: 2,
                reasons: text("2 node(s) didn't match Pod's node affinity/selector"),
                hint: text("no node has label sandbox=yes (nodeSelector)"),
            },
            Self::TooLarge {
                is_overhead: true,
                resource: text("memory"),
                asked: text("64Gi"),
                overhead: text("64Gi"),
                most: text("7800Mi"),
            },
            Self::TooLarge {
                is_overhead: false,
                resource: text("cpu"),
                asked: text("4200m"),
                overhead: text("200m"),
                most: text("4"),
            },
        ];
        for isolation in [Isolation::Sandbox, Isolation::Vm] {
            let handler = if isolation == Isolation::Vm {
                "kata"
            } else {
                "runsc"
            };
            samples.extend(Effect::ALL.map(|effect| Self::Inside {
                field: text("FIELD"),
                effect,
                handler: text(handler),
                isolation,
            }));
        }
        samples.extend([
            Self::NoFeature {
                field: text("spec.hostUsers: false"),
                feature: text("user namespaces"),
                handler: text("runsc"),
            },
            Self::NoFeature {
                field: text("spec.containers[0].volumeMounts[0].recursiveReadOnly"),
                feature: text("recursive read-only mounts"),
                handler: text("crun"),
            },
            Self::NoProfile {
                field: text("spec.securityContext.appArmorProfile"),
                what: text("AppArmor is enabled"),
            },
            Self::NoProfile {
                field: text("spec.securityContext.seccompProfile"),
                what: text("seccomp profile \"audit.json\" is"),
            },
            Self::AppArmorAnnotation {
                key: text("container.apparmor.security.beta.kubernetes.io/main"),
            },
            Self::NodeMissing {
                name: text("worker-11"),
                meant: some("worker-1"),
            },
            Self::ClassMissing {
                class: text("gvsor"),
                meant: some("gvisor"),
            },
            Self::PolicyClassMissing {
                key: text(DEFAULT_CLASS),
                class: text("gvsor"),
                meant: some("gvisor"),
            },
            Self::DefaultNotAllowed {
                class: text("gvisor"),
                allowed: text("\"kata\""),
            },
            Self::AnnotationUnknown {
                key: text("node.berth.dev/default-runtimeclass"),
                meant: text(DEFAULT_CLASS),
            },
            Self::ClassInUse {
                class: text("gvisor"),
                by: text("3 pod(s), 1 workload(s), 1 namespace(s)"),
            },
            Self::QuotaReplicas {
                quota: text("small"),
                replicas: 3,
                requested: text("requests.cpu=900m"),
                used: text("requests.cpu=200m"),
                limited: text("requests.cpu=1"),
            },
            Self::Twice {
                handler: text("runsc"),
                place: text("a.yaml"),
                other: text("runc"),
            },
            Self::HandlerChanged {
                handler: text("runc"),
                cluster: text("runsc"),
            },
            Self::UnknownField {
                path: text("spec.runtimeClass"),
                meant: some("spec.runtimeClassName"),
            },
            Self::WrongGroup {
                kind: text("RuntimeClass"),
                version: text("v1"),
                right: text("node.k8s.io/v1"),
            },
            Self::FractionalBytes {
                field: text("overhead.podFixed[memory]"),
                value: text("64500m"),
            },
        ]);
        samples
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sample_says_what_is_wrong_and_what_to_do() {
        let samples = Advice::samples();
        for sample in &samples {
            assert!(
                !sample.to_string().is_empty() && !sample.hint().is_empty(),
                "{sample:?}"
            );
            assert!(!sample.channels().is_empty(), "{sample:?}");
        }
        let texts: BTreeSet<String> = samples.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), samples.len());
    }
}
