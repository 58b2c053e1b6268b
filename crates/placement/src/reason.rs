//! Why a pod can't run on a node.

use std::fmt;

use berth_core::handlers::cannot_run;

/// One reason, worded as the stock scheduler does where it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The node is cordoned.
    Unschedulable,
    /// The pod asks for another node by name.
    OtherName,
    /// The node has a taint that the pod doesn't tolerate: its key and value.
    Tainted(String, String),
    /// Labels don't match.
    Selector,
    /// A host port is taken.
    Ports,
    /// The node has as many pods as it takes.
    TooManyPods,
    /// Too little of a resource is left.
    Insufficient(String),
    /// The node has too little of a resource even when nothing runs there.
    NeverSufficient(String),
    /// The node's container runtime lacks the class's handler.
    NoHandler(String),
    /// The node has the class's handler, which can't run there: its name, and why.
    BrokenHandler(String, String),
    /// The handler (empty: the default one) keeps the pod less apart than it demands.
    WeakIsolation(String, &'static str),
    /// No pod that this one wants near is in the node's place.
    Affinity,
    /// A pod that this one keeps away from is in the node's place.
    AntiAffinity,
    /// A pod in the node's place keeps this one away.
    ExistingAntiAffinity,
    /// The pods would be spread too unevenly.
    Spread,
    /// The node lacks a label by which pods are to be spread.
    SpreadLabel,
    /// The node doesn't reach a volume of the pod.
    VolumeAffinity,
    /// A claim of the pod can have no volume there.
    NoVolume,
    /// A claim is bound to a volume that isn't there.
    VolumeMissing,
    /// Another pod uses a claim that one at a time may use.
    ClaimInUse,
}

impl Reason {
    /// Whether it may hold no longer when pods leave the node.
    #[must_use]
    pub fn is_about_pods(&self) -> bool {
        match self {
            Self::Ports
            | Self::TooManyPods
            | Self::Insufficient(_)
            | Self::AntiAffinity
            | Self::ExistingAntiAffinity
            | Self::Spread
            | Self::ClaimInUse => true,
            Self::Unschedulable
            | Self::OtherName
            | Self::Tainted(..)
            | Self::Selector
            | Self::NeverSufficient(_)
            | Self::NoHandler(_)
            | Self::BrokenHandler(..)
            | Self::WeakIsolation(..)
            | Self::Affinity
            | Self::SpreadLabel
            | Self::VolumeAffinity
            | Self::NoVolume
            | Self::VolumeMissing => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::OtherName => f.write_str("node(s) didn't match the requested node name"),
            Self::Tainted(key, value) => {
                write!(f, "node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::Selector => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Ports => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient(resource) | Self::NeverSufficient(resource) => {
                write!(f, "Insufficient {resource}")
            }
            Self::NoHandler(handler) => write!(f, "node(s) lack runtime handler {handler:?}"),
            Self::BrokenHandler(handler, reason) => {
                write!(f, "node(s) where {}", cannot_run(handler, reason))
            }
            Self::WeakIsolation(handler, minimum) if handler.is_empty() => {
                write!(f, "node(s) whose default runtime handler isolates less than {minimum}")
            }
            Self::WeakIsolation(handler, minimum) => {
                write!(f, "node(s) whose runtime handler {handler:?} isolates less than {minimum}")
            }
            Self::Affinity => f.write_str("node(s) didn't match pod affinity rules"),
            Self::AntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::ExistingAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::SpreadLabel => f.write_str(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ),
            Self::VolumeAffinity => {
                f.write_str("node(s) didn't match PersistentVolume's node affinity")
            }
            Self::NoVolume => {
                f.write_str("node(s) didn't find available persistent volumes to bind")
            }
            Self::VolumeMissing => f.write_str(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
            Self::ClaimInUse => f.write_str(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
        }
    }
}
