//! The tables. A group `core` is the group without a name.

use super::Line;

const WRITE: &str = "create update patch delete deletecollection";
const READ_WRITE: &str = "get list watch create update patch delete deletecollection";
pub(super) const READ: &str = "get list watch";
const READ_UPDATE: &str = "get list watch update patch";

pub(super) const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Line {
    Line {
        verbs,
        groups,
        resources,
        names: "",
        urls: "",
    }
}

pub(super) const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Line {
    Line {
        verbs,
        groups,
        resources,
        names,
        urls: "",
    }
}

const fn urls(verbs: &'static str, urls: &'static str) -> Line {
    Line {
        verbs,
        groups: "",
        resources: "",
        names: "",
        urls,
    }
}

pub(super) const EVENTS: Line = on("create update patch", "core events.k8s.io", "events");

/// Name, the role it is aggregated to, rules.
pub(super) const CLUSTER_ROLES: &[(&str, &str, &[Line])] = &[
    ("cluster-admin", "", &[on("*", "*", "*"), urls("*", "*")]),
    ("admin", "", &[]),
    ("edit", "admin", &[]),
    ("view", "edit", &[]),
    (
        "system:aggregate-to-admin",
        "admin",
        &[
            on(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews",
            ),
            on(
                READ_WRITE,
                "rbac.authorization.k8s.io",
                "roles rolebindings",
            ),
        ],
    ),
    (
        "system:aggregate-to-edit",
        "edit",
        &[
            on(
                READ,
                "core",
                "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
            ),
            on("impersonate", "core", "serviceaccounts"),
            on(
                WRITE,
                "core",
                "pods pods/attach pods/proxy pods/exec pods/portforward",
            ),
            on("create", "core", "pods/eviction"),
            on(
                WRITE,
                "core",
                "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
                 persistentvolumeclaims configmaps secrets events",
            ),
            on("create", "core", "serviceaccounts/token"),
            on(WRITE, "events.k8s.io", "events"),
            on(
                WRITE,
                "apps",
                "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
                 replicasets replicasets/scale",
            ),
            on(WRITE, "autoscaling", "horizontalpodautoscalers"),
            on(WRITE, "batch", "jobs cronjobs"),
            on(
                WRITE,
                "extensions",
                "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
                 replicasets/scale replicationcontrollers/scale networkpolicies",
            ),
            on(WRITE, "policy", "poddisruptionbudgets"),
            on(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
            on(READ_WRITE, "coordination.k8s.io", "leases"),
            on(
                WRITE,
                "resource.k8s.io",
                "resourceclaims resourceclaimtemplates",
            ),
        ],
    ),
    // The role of metrics-server, whose API the server has itself.
    (
        "system:aggregated-metrics-reader",
        "view",
        &[on(READ, "metrics.k8s.io", "pods nodes")],
    ),
    (
        "system:aggregate-to-view",
        "view",
        &[
            on(
                READ,
                "core",
                "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
                 endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
            ),
            on(
                READ,
                "core",
                "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
                 replicationcontrollers/status pods/log",
            ),
            on(READ, "core", "namespaces"),
            on(READ, "events.k8s.io", "events"),
            on(READ, "discovery.k8s.io", "endpointslices"),
            on(
                READ,
                "apps",
                "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets \
                 daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status \
                 replicasets/scale",
            ),
            on(
                READ,
                "autoscaling",
                "horizontalpodautoscalers horizontalpodautoscalers/status",
            ),
            on(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
            on(
                READ,
                "extensions",
                "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
                 ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale \
                 networkpolicies",
            ),
            on(
                READ,
                "policy",
                "poddisruptionbudgets poddisruptionbudgets/status",
            ),
            on(
                READ,
                "networking.k8s.io",
                "networkpolicies ingresses ingresses/status",
            ),
            on(
                READ,
                "resource.k8s.io",
                "resourceclaims resourceclaims/status resourceclaimtemplates",
            ),
        ],
    ),
    (
        "system:discovery",
        "",
        &[urls(
            "get",
            "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*",
        )],
    ),
    (
        "system:monitoring",
        "",
        &[
            urls(
                "get",
                "/metrics /metrics/slis /flagz /statusz /livez /readyz /healthz /livez/* /readyz/* /healthz/*",
            ),
            on("get", "core", "nodes/metrics"),
        ],
    ),
    (
        "system:basic-user",
        "",
        &[
            on(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    (
        "system:public-info-viewer",
        "",
        &[urls("get", "/livez /readyz /healthz /version /version/")],
    ),
    (
        "system:node",
        "",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on(
                "create",
                "authorization.k8s.io",
                "subjectaccessreviews localsubjectaccessreviews",
            ),
            on(READ, "core", "services"),
            on("create get list watch", "core", "nodes"),
            on("update patch", "core", "nodes/status"),
            on("update patch", "core", "nodes"),
            EVENTS,
            on(READ, "core", "pods"),
            on("create delete", "core", "pods"),
            on("update patch", "core", "pods/status"),
            on("create", "core", "pods/eviction"),
            on(READ, "core", "secrets configmaps"),
            on("get", "core", "persistentvolumeclaims persistentvolumes"),
            on("get", "core", "endpoints"),
            on(
                "create get list watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            on(
                "get create update patch delete",
                "coordination.k8s.io",
                "leases",
            ),
            on("get", "storage.k8s.io", "volumeattachments"),
            on("create", "core", "serviceaccounts/token"),
            on("get update patch", "core", "persistentvolumeclaims/status"),
            on("get watch list", "storage.k8s.io", "csidrivers"),
            on(
                "get create update patch delete",
                "storage.k8s.io",
                "csinodes",
            ),
            on(READ, "node.k8s.io", "runtimeclasses"),
            on("get", "resource.k8s.io", "resourceclaims"),
            on("deletecollection", "resource.k8s.io", "resourceslices"),
            on("get", "core", "serviceaccounts"),
        ],
    ),
    (
        "system:node-problem-detector",
        "",
        &[
            on("get", "core", "nodes"),
            on("patch", "core", "nodes/status"),
            EVENTS,
        ],
    ),
    (
        "system:node-bootstrapper",
        "",
        &[on(
            "create get list watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    ),
    (
        "system:auth-delegator",
        "",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:kube-aggregator",
        "",
        &[on(READ, "core", "services endpoints")],
    ),
    (
        "system:kube-controller-manager",
        "",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get update",
                "coordination.k8s.io",
                "leases",
                "kube-controller-manager",
            ),
            on("create", "core", "secrets serviceaccounts"),
            on("delete", "core", "secrets"),
            on(
                "get",
                "core",
                "namespaces secrets serviceaccounts configmaps",
            ),
            on("update", "core", "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("list watch", "*", "*"),
            on("create", "core", "serviceaccounts/token"),
        ],
    ),
    (
        "system:kube-dns",
        "",
        &[on("list watch", "core", "endpoints services")],
    ),
    (
        "system:heapster",
        "",
        &[
            on(READ, "core", "events pods nodes namespaces"),
            on(READ, "extensions", "deployments"),
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        "",
        &[
            on("get list watch create delete", "core", "persistentvolumes"),
            on("get list watch update", "core", "persistentvolumeclaims"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    ),
    (
        "system:volume-scheduler",
        "",
        &[
            on(READ_UPDATE, "core", "persistentvolumes"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        "",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/legacy-unknown",
        )],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        "",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kubelet-serving",
        )],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        "",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        "",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    ),
    (
        "system:service-account-issuer-discovery",
        "",
        &[urls(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:kubelet-api-admin",
        "",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on(
                "*",
                "core",
                "nodes/proxy nodes/metrics nodes/stats nodes/log",
            ),
            on("*", "core", "nodes/pods nodes/healthz nodes/configz"),
        ],
    ),
    (
        "system:node-proxier",
        "",
        &[
            on("list watch", "core", "services endpoints"),
            on(READ, "core", "nodes"),
            EVENTS,
            on("list watch", "networking.k8s.io", "servicecidrs"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:kube-scheduler",
        "",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get update list watch",
                "coordination.k8s.io",
                "leases",
                "kube-scheduler",
            ),
            on(READ_WRITE, "coordination.k8s.io", "leasecandidates"),
            on(READ, "core", "nodes"),
            on("get list watch delete", "core", "pods"),
            on("create", "core", "pods/binding bindings"),
            on("patch update", "core", "pods/status"),
            on(READ, "core", "services replicationcontrollers"),
            on(READ, "apps extensions", "replicasets"),
            on(READ, "apps", "statefulsets"),
            on(READ, "policy", "poddisruptionbudgets"),
            on(READ, "core", "persistentvolumeclaims persistentvolumes"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on(READ, "storage.k8s.io", "csinodes"),
            on(READ, "storage.k8s.io", "volumeattachments"),
            on(READ, "core", "namespaces"),
            on(READ, "storage.k8s.io", "csidrivers"),
            on(READ, "storage.k8s.io", "csistoragecapacities"),
            on(READ, "resource.k8s.io", "deviceclasses"),
            on(
                "get list watch create update patch delete",
                "resource.k8s.io",
                "resourceclaims",
            ),
            on(READ_UPDATE, "resource.k8s.io", "resourceclaims/status"),
            on("update patch", "resource.k8s.io", "resourceclaims/binding"),
            on("update", "core", "pods/finalizers"),
            on(READ, "resource.k8s.io", "resourceslices"),
            on(READ, "node.k8s.io", "runtimeclasses"),
        ],
    ),
];

/// Name of binding and role, subjects.
pub(super) const CLUSTER_ROLE_BINDINGS: &[(&str, &str)] = &[
    ("cluster-admin", "Group:system:masters"),
    ("system:monitoring", "Group:system:monitoring"),
    ("system:discovery", "Group:system:authenticated"),
    ("system:basic-user", "Group:system:authenticated"),
    (
        "system:public-info-viewer",
        "Group:system:authenticated Group:system:unauthenticated",
    ),
    ("system:node-proxier", "User:system:kube-proxy"),
    (
        "system:kube-controller-manager",
        "User:system:kube-controller-manager",
    ),
    ("system:kube-dns", "ServiceAccount:kube-system:kube-dns"),
    ("system:kube-scheduler", "User:system:kube-scheduler"),
    ("system:volume-scheduler", "User:system:kube-scheduler"),
    // a node's rights come from the Node authorizer
    ("system:node", ""),
    (
        "system:service-account-issuer-discovery",
        "Group:system:serviceaccounts",
    ),
];

const LEADER_LEASES: Line = on(
    "get watch list create update",
    "coordination.k8s.io",
    "leases",
);
const LEADER_CANDIDATES: Line = on(
    "get watch list create update",
    "coordination.k8s.io",
    "leasecandidates",
);

/// Namespace, name, rules.
pub(super) const ROLES: &[(&str, &str, &[Line])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named(
            READ,
            "core",
            "configmaps",
            "extension-apiserver-authentication",
        )],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[on(READ, "core", "secrets")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[on("create get list watch", "core", "configmaps")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[on("get list watch delete", "core", "secrets"), EVENTS],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[LEADER_LEASES, LEADER_CANDIDATES],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[LEADER_LEASES, LEADER_CANDIDATES],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            on(READ, "core", "configmaps"),
            named("update", "core", "configmaps", "cluster-info"),
            EVENTS,
        ],
    ),
];

/// Namespace, name, role, subjects.
pub(super) const ROLE_BINDINGS: &[(&str, &str, &str, &str)] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        "User:system:kube-controller-manager User:system:kube-scheduler",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "User:system:kube-controller-manager ServiceAccount:kube-system:kube-controller-manager \
         ServiceAccount:kube-system:leader-election-controller",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        "User:system:kube-scheduler ServiceAccount:kube-system:kube-scheduler",
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "ServiceAccount:kube-system:bootstrap-signer",
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        "ServiceAccount:kube-system:cloud-provider",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        "ServiceAccount:kube-system:token-cleaner",
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "ServiceAccount:kube-system:bootstrap-signer",
    ),
];
