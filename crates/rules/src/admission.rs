//! Admission: what a new pod gets from its cluster, and what gets it rejected. Pure; the caller looks things up.
//!
//! The order of the stock API server. Mutating: [`always_pull_images::admit`] (where it is enabled),
//! [`limit_range::admit`], [`service_account`], [`priority`], [`default_tolerations`], [`namespace_policy`] (berth's own),
//! [`runtime_class`], [`isolation`] (berth's own). After that, validating: [`always_pull_images::check`],
//! [`limit_range::check`], [`pod_security`], last [`quota`].

pub mod always_pull_images;
pub mod configuration;
pub mod default_tolerations;
pub mod isolation;
pub mod limit_range;
pub mod namespace_policy;
pub mod node_restriction;
pub mod pod_security;
pub mod priority;
pub mod quota;
pub mod runtime_class;
pub mod service_account;

use thiserror::Error;

/// Why a pod is not admitted; each is a 403 whose message is `pods "name" is forbidden: ` and this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The pod names a class that is not there.
    #[error("pod rejected: RuntimeClass {class:?} not found")]
    ClassNotFound {
        /// The class.
        class: String,
    },
    /// The pod brings an overhead that differs from its class's.
    #[error("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")]
    OverheadMismatch,
    /// The pod brings an overhead that no class gives.
    #[error("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")]
    OverheadWithoutClass,
    /// Pod and class want different values of one node label.
    #[error(
        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {class}; pod.spec.nodeSelector[{key}] = {pod}"
    )]
    SelectorConflict {
        /// The label.
        key: String,
        /// What the class wants.
        class: String,
        /// What the pod wants.
        pod: String,
    },
    /// The namespace does not allow the class.
    #[error("pod rejected: {class} is not allowed in namespace {namespace:?}; allowed are {allowed} (annotation {annotation})", annotation = namespace_policy::ALLOWED)]
    ClassNotAllowed {
        /// The class, or "no RuntimeClass".
        class: String,
        /// The namespace.
        namespace: String,
        /// The list.
        allowed: String,
    },
    /// Sums or containers outside the limits of the namespace.
    #[error("{}", joined(.0))]
    Limits(Vec<String>),
    /// An amount of the pod, a quota or a limit range is no quantity, so that nothing can be compared with it.
    #[error("cannot be compared with {with}: {what}")]
    Unreadable {
        /// The quota or limit range.
        with: String,
        /// Where the amount stands.
        what: String,
    },
    /// A quota demands what a container leaves open.
    #[error("failed quota: {quota}: must specify {missing}")]
    QuotaNeeds {
        /// The quota.
        quota: String,
        /// Resources, and the containers that lack them.
        missing: String,
    },
    /// A quota would be exceeded.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    QuotaExceeded {
        /// The quota.
        quota: String,
        /// What the new object asks for.
        requested: String,
        /// What is used.
        used: String,
        /// What there is.
        limited: String,
    },
    /// The service account is not there.
    #[error(
        "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
    )]
    ServiceAccountNotFound {
        /// The namespace.
        namespace: String,
        /// The account.
        name: String,
    },
    /// The priority class is not there.
    #[error("no PriorityClass with name {0} was found")]
    PriorityClassNotFound(String),
    /// The pod brings a priority of its own.
    #[error(
        "the integer value of priority ({pod}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    PriorityMismatch {
        /// What the pod says.
        pod: i32,
        /// What its class says.
        computed: i32,
    },
    /// The pod brings a preemption policy of its own.
    #[error(
        "the string value of PreemptionPolicy ({pod}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    PreemptionMismatch {
        /// What the pod says.
        pod: String,
        /// What its class says.
        computed: String,
    },
}

/// One alone as it is, several in brackets.
fn joined(messages: &[String]) -> String {
    match messages {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
