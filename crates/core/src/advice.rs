//! What is told early about RuntimeClasses, pods and namespaces, in the exact words: the API server's warnings, the
//! scheduler's and the node's events and `berth check` all take them from here.
//!
//! [`Advice`] is one thing that is told. Who decides that it is told: [`pod`] and [`namespace`] from the object alone,
//! `berth-placement` from the nodes, `berth-check` from files and a whole cluster. The rules with their words are a table in
//! docs/runtimeclass.md, which a test of `berth-check` holds against [`Advice::samples`].

pub mod inside;
pub mod namespace;
pub mod pod;
mod samples;
mod words;

use crate::isolation::Isolation;
pub use inside::Effect;

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Advice {
    /// No node reports the handler of a class.
    HandlerMissing {
        /// The handler.
        handler: String,
        /// How many nodes there are.
        nodes: usize,
        /// What they report instead, without what can't run.
        offered: Vec<String>,
    },
    /// The handler of a class is configured on nodes, and can run on none.
    HandlerBroken {
        /// The handler.
        handler: String,
        /// On how many nodes it can't, by reason.
        reasons: Vec<(String, usize)>,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Nodes have the handler of a class, and none takes its pods.
    ClassUnplaceable {
        /// The handler.
        handler: String,
        /// How many nodes have it.
        able: usize,
        /// What keeps pods off them, counted.
        reasons: String,
        /// What would help.
        hint: String,
    },
    /// No node can run a pod of a class now.
    PodUnplaceable {
        /// The class.
        class: String,
        /// Its handler.
        handler: String,
        /// How many nodes there are.
        nodes: usize,
        /// Why not, counted.
        reasons: String,
        /// What would help.
        hint: String,
    },
    /// Pods ask for more than any node has.
    TooLarge {
        /// Whether the overhead of the class alone is.
        is_overhead: bool,
        /// The resource.
        resource: String,
        /// What is asked for.
        asked: String,
        /// What of that is overhead; empty without.
        overhead: String,
        /// The most that a node has for pods.
        most: String,
    },
    /// Something does not do inside a sandbox or virtual machine what it does under runc.
    Inside {
        /// Where it stands.
        field: String,
        /// What it is.
        effect: Effect,
        /// The handler.
        handler: String,
        /// What the handler's pods run in.
        isolation: Isolation,
    },
    /// No node that has the handler has with it what the pod needs.
    NoFeature {
        /// Where it stands.
        field: String,
        /// What it needs.
        feature: String,
        /// The handler.
        handler: String,
    },
    /// A profile that no node has.
    NoProfile {
        /// Where it stands.
        field: String,
        /// What is not there.
        what: String,
    },
    /// AppArmor by annotation, as before v1.30.
    AppArmorAnnotation {
        /// The annotation.
        key: String,
    },
    /// A pod brings its node, which isn't there.
    NodeMissing {
        /// The name.
        name: String,
        /// A node whose name is like it.
        meant: Option<String>,
    },
    /// A pod template names a class that isn't there.
    ClassMissing {
        /// The class.
        class: String,
        /// A class whose name is like it.
        meant: Option<String>,
    },
    /// The policy of a namespace names a class that isn't there.
    PolicyClassMissing {
        /// The annotation.
        key: String,
        /// The class.
        class: String,
        /// A class whose name is like it.
        meant: Option<String>,
    },
    /// The default class of a namespace is not among those that it allows.
    DefaultNotAllowed {
        /// The default.
        class: String,
        /// The list.
        allowed: String,
    },
    /// An annotation that is nearly one of berth's.
    AnnotationUnknown {
        /// As it is written.
        key: String,
        /// As it should be.
        meant: String,
    },
    /// A class goes while pods or policies name it.
    ClassInUse {
        /// The class.
        class: String,
        /// What names it, counted.
        by: String,
    },
    /// More pods than a quota has room for.
    QuotaReplicas {
        /// The quota.
        quota: String,
        /// How many pods are wanted.
        replicas: i64,
        /// What they ask for together.
        requested: String,
        /// What is used.
        used: String,
        /// What there is.
        limited: String,
    },
    /// The same object is in the files more than once.
    Twice {
        /// The handler of the first one.
        handler: String,
        /// Where that is.
        place: String,
        /// The handler of this one.
        other: String,
    },
    /// A class has another handler in the cluster.
    HandlerChanged {
        /// In the file.
        handler: String,
        /// In the cluster.
        cluster: String,
    },
    /// A field that the kind doesn't have.
    UnknownField {
        /// Its path.
        path: String,
        /// The one that was meant, by its path.
        meant: Option<String>,
    },
    /// A kind of another group or version.
    WrongGroup {
        /// The kind.
        kind: String,
        /// As it is written.
        version: String,
        /// As it should be.
        right: String,
    },
    /// An amount of bytes that is no whole number.
    FractionalBytes {
        /// Where it stands.
        field: String,
        /// As it is written.
        value: String,
    },
}

/// Where an advice is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A warning of the API server, when an object is created or changed.
    Apply,
    /// A warning of the API server, when an object is deleted.
    Delete,
    /// `berth check`.
    Check,
    /// The event of a pod.
    Event,
}

impl Channel {
    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Check => "check",
            Self::Event => "event",
        }
    }
}

impl Advice {
    /// The rule's name in the table and in `berth check -o json`.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::HandlerMissing { .. } => "handler-missing",
            Self::HandlerBroken { .. } => "handler-broken",
            Self::ClassUnplaceable { .. } => "class-unplaceable",
            Self::PodUnplaceable { .. } => "pod-unplaceable",
            Self::TooLarge { .. } => "too-large",
            Self::Inside { .. } => "inside-sandbox",
            Self::NoFeature { .. } => "no-feature",
            Self::NoProfile { .. } => "no-profile",
            Self::AppArmorAnnotation { .. } => "apparmor-annotation",
            Self::NodeMissing { .. } => "node-missing",
            Self::ClassMissing { .. } => "class-missing",
            Self::PolicyClassMissing { .. } => "policy",
            Self::DefaultNotAllowed { .. } => "default-not-allowed",
            Self::AnnotationUnknown { .. } => "annotation-unknown",
            Self::ClassInUse { .. } => "class-in-use",
            Self::QuotaReplicas { .. } => "quota",
            Self::Twice { .. } => "defined-twice",
            Self::HandlerChanged { .. } => "handler-changed",
            Self::UnknownField { .. } => "unknown-field",
            Self::WrongGroup { .. } => "wrong-group",
            Self::FractionalBytes { .. } => "fractional-bytes",
        }
    }

    /// Where it is shown.
    #[must_use]
    pub fn channels(&self) -> &'static [Channel] {
        use Channel::{Apply, Check, Delete, Event};
        match self {
            Self::HandlerBroken { .. } | Self::PodUnplaceable { .. } => &[Apply, Check, Event],
            Self::HandlerMissing { .. }
            | Self::TooLarge { .. }
            | Self::Inside { .. }
            | Self::NoFeature { .. }
            | Self::NoProfile { .. }
            | Self::AppArmorAnnotation { .. }
            | Self::NodeMissing { .. }
            | Self::ClassMissing { .. }
            | Self::PolicyClassMissing { .. }
            | Self::DefaultNotAllowed { .. }
            | Self::AnnotationUnknown { .. }
            | Self::FractionalBytes { .. } => &[Apply, Check],
            Self::ClassInUse { .. } => &[Delete],
            Self::ClassUnplaceable { .. }
            | Self::QuotaReplicas { .. }
            | Self::Twice { .. }
            | Self::HandlerChanged { .. }
            | Self::UnknownField { .. }
            | Self::WrongGroup { .. } => &[Check],
        }
    }

    /// Whether the object does not work as it is; otherwise it works, but perhaps not as its author thinks.
    #[must_use]
    pub fn is_error(&self) -> bool {
        match self {
            Self::Inside {
                effect, isolation, ..
            } => effect.is_refused(*isolation),
            Self::AppArmorAnnotation { .. }
            | Self::AnnotationUnknown { .. }
            | Self::ClassInUse { .. } => false,
            Self::HandlerMissing { .. }
            | Self::HandlerBroken { .. }
            | Self::ClassUnplaceable { .. }
            | Self::PodUnplaceable { .. }
            | Self::TooLarge { .. }
            | Self::NoFeature { .. }
            | Self::NoProfile { .. }
            | Self::NodeMissing { .. }
            | Self::ClassMissing { .. }
            | Self::PolicyClassMissing { .. }
            | Self::DefaultNotAllowed { .. }
            | Self::QuotaReplicas { .. }
            | Self::Twice { .. }
            | Self::HandlerChanged { .. }
            | Self::UnknownField { .. }
            | Self::WrongGroup { .. }
            | Self::FractionalBytes { .. } => true,
        }
    }
}
