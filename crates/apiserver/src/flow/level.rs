//! Which priority level a request belongs to, and which flow within it.
//!
//! The levels are those that the stock server's API Priority and Fairness begins with, by the stock FlowSchemas; they
//! are fixed here, and their objects (`flowcontrol.apiserver.k8s.io`) are not served.

use crate::user::{MASTERS, UNAUTHENTICATED, User};

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const ACCOUNTS: &str = "system:serviceaccounts";
const SYSTEM_ACCOUNTS: &str = "system:serviceaccounts:kube-system";

/// What flow control needs to know of a request. Empty strings stand for "none".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The verb, as authorization has it.
    pub(crate) verb: &'a str,
    /// Whether a resource is asked for, or a path.
    pub(crate) is_resource: bool,
    /// API group.
    pub(crate) group: &'a str,
    /// Plural resource name.
    pub(crate) resource: &'a str,
    /// Subresource.
    pub(crate) subresource: &'a str,
    /// Namespace.
    pub(crate) namespace: &'a str,
    /// Path of a request for no resource.
    pub(crate) path: &'a str,
    /// Seats that it takes: 1, or what [`super::of_list`] says of a list.
    pub(crate) width: u32,
}

/// A priority level: a share of the seats that the other levels cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    /// Health probes and administrators: never queued, never refused.
    Exempt,
    /// Leases of the scheduler and the controller manager.
    LeaderElection,
    /// What shows that a node lives: its status and its lease.
    NodeHigh,
    /// Whatever else nodes ask for.
    System,
    /// Scheduler, controllers and the service accounts of kube-system.
    WorkloadHigh,
    /// All other service accounts.
    WorkloadLow,
    /// Users.
    GlobalDefault,
    /// Whoever has shown no credentials.
    CatchAll,
}

impl Level {
    /// The levels that have seats.
    pub(crate) const LIMITED: [Self; 7] = [
        Self::LeaderElection,
        Self::NodeHigh,
        Self::System,
        Self::WorkloadHigh,
        Self::WorkloadLow,
        Self::GlobalDefault,
        Self::CatchAll,
    ];

    /// The name of the stock PriorityLevelConfiguration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exempt => "exempt",
            Self::LeaderElection => "leader-election",
            Self::NodeHigh => "node-high",
            Self::System => "system",
            Self::WorkloadHigh => "workload-high",
            Self::WorkloadLow => "workload-low",
            Self::GlobalDefault => "global-default",
            Self::CatchAll => "catch-all",
        }
    }

    /// The stock share of the seats (`nominalConcurrencyShares`).
    pub(crate) const fn shares(self) -> u32 {
        match self {
            Self::Exempt => 0,
            Self::LeaderElection => 10,
            Self::NodeHigh | Self::WorkloadHigh => 40,
            Self::System => 30,
            Self::WorkloadLow => 100,
            Self::GlobalDefault => 20,
            Self::CatchAll => 5,
        }
    }

    /// Whether a request waits when there is no seat; the catch-all level refuses at once, as the stock one.
    pub(crate) const fn queues(self) -> bool {
        !matches!(self, Self::CatchAll)
    }

    /// Seats of this level out of `total`, rounded up as on the stock server.
    pub(crate) fn seats(self, total: u32) -> u32 {
        let sum: u32 = Self::LIMITED.iter().map(|level| level.shares()).sum();
        let seats = u64::from(total) * u64::from(self.shares());
        u32::try_from(seats.div_ceil(u64::from(sum)))
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// Where a request is queued: its level, the FlowSchema that chose it, and what sets its flow apart from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) level: Level,
    pub(crate) schema: &'static str,
    pub(crate) key: String,
}

/// Finds the flow of a request, by the stock FlowSchemas in the order of their precedence.
pub(crate) fn classify(user: &User, asked: &Asked<'_>) -> Flow {
    let by_user = |level, schema| Flow {
        level,
        schema,
        key: user.name.clone(),
    };
    let by_namespace = |level, schema| Flow {
        level,
        schema,
        key: format!("{}/{}", user.name, asked.namespace),
    };
    if user.in_group(MASTERS) {
        return by_user(Level::Exempt, "exempt");
    }
    if !asked.is_resource && is_probe(asked) {
        return by_user(Level::Exempt, "probes");
    }
    let manager = user.name == "system:kube-controller-manager";
    let scheduler = user.name == "system:kube-scheduler";
    let of_system = user.in_group(SYSTEM_ACCOUNTS);
    let lease = asked.is_resource
        && asked.group == "coordination.k8s.io"
        && asked.resource == "leases"
        && asked.subresource.is_empty();
    if (manager || scheduler || of_system)
        && lease
        && asked.namespace == "kube-system"
        && matches!(asked.verb, "get" | "create" | "update")
    {
        return by_user(Level::LeaderElection, "system-leader-election");
    }
    if is_node(user) {
        let status = asked.is_resource
            && asked.group.is_empty()
            && asked.resource == "nodes"
            && matches!(asked.subresource, "" | "status")
            && !is_long_running(asked.verb, asked.subresource);
        let heartbeat = lease && asked.namespace == "kube-node-lease" && asked.verb != "watch";
        return if status || heartbeat {
            by_user(Level::NodeHigh, "system-node-high")
        } else {
            by_user(Level::System, "system-nodes")
        };
    }
    if manager {
        return by_namespace(Level::WorkloadHigh, "kube-controller-manager");
    }
    if scheduler {
        return by_namespace(Level::WorkloadHigh, "kube-scheduler");
    }
    if of_system {
        return by_namespace(Level::WorkloadHigh, "kube-system-service-accounts");
    }
    if user.in_group(ACCOUNTS) {
        return by_user(Level::WorkloadLow, "service-accounts");
    }
    if user.in_group(UNAUTHENTICATED) {
        return by_user(Level::CatchAll, "catch-all");
    }
    by_user(Level::GlobalDefault, "global-default")
}

/// Whether a request stays open after its answer has begun: it has a seat only until then.
pub(crate) fn is_long_running(verb: &str, subresource: &str) -> bool {
    verb == "watch"
        || matches!(
            subresource,
            "attach" | "exec" | "log" | "portforward" | "proxy"
        )
}

/// A node's own identity; group and name must agree.
fn is_node(user: &User) -> bool {
    user.in_group(NODES)
        && user
            .name
            .strip_prefix(NODE_PREFIX)
            .is_some_and(|name| !name.is_empty())
}

fn is_probe(asked: &Asked<'_>) -> bool {
    asked.verb == "get" && matches!(asked.path, "/healthz" | "/livez" | "/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::AUTHENTICATED;

    fn user(name: &str, groups: &[&str]) -> User {
        User {
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..User::default()
        }
    }

    fn asked<'a>(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
    ) -> Asked<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Asked {
            verb,
            is_resource: true,
            group,
            resource,
            subresource,
            namespace,
            path: "",
            width: 1,
        }
    }

    #[test]
    fn each_has_its_level() {
        let node = user("system:node:a", &[NODES, AUTHENTICATED]);
        let odd_node = user("mallory", &[NODES, AUTHENTICATED]);
        let jane = user("jane", &[AUTHENTICATED]);
        let robot = user(
            "system:serviceaccount:a:b",
            &[ACCOUNTS, "system:serviceaccounts:a", AUTHENTICATED],
        );
        let scheduler = user("system:kube-scheduler", &[AUTHENTICATED]);
        let leases = "coordination.k8s.io";
        for (user, asked, level, key) in [
            (
                &User::master("admin"),
                asked("list", "", "pods", ""),
                Level::Exempt,
                "admin",
            ),
            (
                &node,
                asked("update", leases, "leases", "kube-node-lease"),
                Level::NodeHigh,
                "system:node:a",
            ),
            (
                &node,
                asked("patch", "", "nodes/status", ""),
                Level::NodeHigh,
                "system:node:a",
            ),
            (
                &node,
                asked("watch", "", "nodes", ""),
                Level::System,
                "system:node:a",
            ),
            (
                &node,
                asked("create", "", "nodes/proxy", ""),
                Level::System,
                "system:node:a",
            ),
            (
                &node,
                asked("list", "", "pods", ""),
                Level::System,
                "system:node:a",
            ),
            // A certificate of the group alone has no lane of a node.
            (
                &odd_node,
                asked("update", leases, "leases", "kube-node-lease"),
                Level::GlobalDefault,
                "mallory",
            ),
            (
                &scheduler,
                asked("update", leases, "leases", "kube-system"),
                Level::LeaderElection,
                "system:kube-scheduler",
            ),
            (
                &jane,
                asked("update", leases, "leases", "kube-system"),
                Level::GlobalDefault,
                "jane",
            ),
            (
                &scheduler,
                asked("create", "", "pods/binding", "x"),
                Level::WorkloadHigh,
                "system:kube-scheduler/x",
            ),
            (
                &robot,
                asked("list", "", "pods", "a"),
                Level::WorkloadLow,
                "system:serviceaccount:a:b",
            ),
            (
                &User::anonymous(),
                asked("list", "", "pods", "a"),
                Level::CatchAll,
                "system:anonymous",
            ),
        ] {
            let flow = classify(user, &asked);
            assert_eq!(
                (flow.level, flow.key.as_str()),
                (level, key),
                "{} {asked:?}",
                user.name
            );
        }
    }

    #[test]
    fn probes_are_exempt_but_not_what_looks_like_them() {
        let path = |path, verb| Asked {
            path,
            is_resource: false,
            ..asked(verb, "", "", "")
        };
        let level = |path| classify(&User::anonymous(), &path).level;
        assert_eq!(level(path("/livez", "get")), Level::Exempt);
        assert_eq!(level(path("/livez", "post")), Level::CatchAll);
        assert_eq!(level(path("/metrics", "get")), Level::CatchAll);
    }

    #[test]
    fn seats_are_shared_out_as_on_the_stock_server() {
        assert_eq!(Level::NodeHigh.seats(600), 98);
        assert_eq!(Level::WorkloadLow.seats(600), 245);
        assert_eq!(Level::CatchAll.seats(600), 13);
        assert_eq!(Level::CatchAll.seats(1), 1);
    }
}
