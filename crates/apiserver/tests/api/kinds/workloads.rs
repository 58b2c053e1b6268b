//! apps, batch and their like.

use serde_json::{Value, json};

use super::{Case, template};

const NO_CONTROLLER: &str = "nothing acts on it until a kube-controller-manager runs";

fn selected(more: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template()});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    json!({"metadata": {"name": "x"}, "spec": spec})
}

/// What is wrong with every workload that has a selector and a template.
fn wrong_templates() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        (
            "/spec/selector",
            json!({}),
            "FieldValueRequired",
            "spec.selector",
        ),
        (
            "/spec/selector/matchLabels/app",
            json!("other"),
            "FieldValueInvalid",
            "spec.template.metadata.labels",
        ),
        (
            "/spec/template/spec/containers",
            json!([]),
            "FieldValueRequired",
            "spec.template.spec.containers",
        ),
        (
            "/spec/template/spec/containers/0/image",
            json!(""),
            "FieldValueRequired",
            "spec.template.spec.containers[0].image",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "FieldValueNotSupported",
            "spec.template.spec.restartPolicy",
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "FieldValueForbidden",
            "spec.template.spec.activeDeadlineSeconds",
        ),
        (
            "/spec/minReadySeconds",
            json!(-1),
            "FieldValueInvalid",
            "spec.minReadySeconds",
        ),
    ]
}

fn deployment() -> Case {
    let mut wrong = wrong_templates();
    wrong.extend([
        (
            "/spec/replicas",
            json!(-1),
            "FieldValueInvalid",
            "spec.replicas",
        ),
        (
            "/spec/strategy",
            json!({"type": "Odd"}),
            "FieldValueNotSupported",
            "spec.strategy.type",
        ),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "FieldValueForbidden",
            "spec.strategy.rollingUpdate",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            "FieldValueInvalid",
            "spec.strategy.rollingUpdate.maxUnavailable",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            "FieldValueInvalid",
            "spec.strategy.rollingUpdate.maxUnavailable",
        ),
        (
            "/spec/progressDeadlineSeconds",
            json!(0),
            "FieldValueInvalid",
            "spec.progressDeadlineSeconds",
        ),
    ]);
    Case {
        path: "/apis/apps/v1/namespaces/default/deployments",
        names: ("Deployment", &["deploy"]),
        minimal: selected(json!({})),
        defaults: vec![
            ("/metadata/generation", json!(1)),
            ("/spec/replicas", json!(1)),
            ("/spec/revisionHistoryLimit", json!(10)),
            ("/spec/progressDeadlineSeconds", json!(600)),
            (
                "/spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            ),
            ("/spec/template/spec/restartPolicy", json!("Always")),
            ("/spec/template/spec/dnsPolicy", json!("ClusterFirst")),
            (
                "/spec/template/spec/terminationGracePeriodSeconds",
                json!(30),
            ),
            (
                "/spec/template/spec/schedulerName",
                json!("default-scheduler"),
            ),
            ("/spec/template/spec/securityContext", json!({})),
            (
                "/spec/template/spec/containers/0/imagePullPolicy",
                json!("IfNotPresent"),
            ),
            ("/spec/template/spec/containers/0/resources", json!({})),
            (
                "/spec/template/spec/containers/0/terminationMessagePath",
                json!("/dev/termination-log"),
            ),
        ],
        wrong,
        fixed: vec![(
            "/spec/selector",
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            "FieldValueInvalid",
            "spec.selector",
        )],
        status: json!({"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2}),
        warning: NO_CONTROLLER,
        columns: &["Name", "Ready", "Up-to-date", "Available", "Age"],
        cells: vec![json!("x"), json!("1/1"), json!(2), json!(0)],
    }
}

fn replica_set() -> Case {
    let mut wrong = wrong_templates();
    wrong.push((
        "/spec/replicas",
        json!(-1),
        "FieldValueInvalid",
        "spec.replicas",
    ));
    Case {
        path: "/apis/apps/v1/namespaces/default/replicasets",
        names: ("ReplicaSet", &["rs"]),
        minimal: selected(json!({})),
        defaults: vec![("/spec/replicas", json!(1)), ("/status/replicas", json!(0))],
        wrong,
        fixed: vec![(
            "/spec/selector",
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            "FieldValueInvalid",
            "spec.selector",
        )],
        status: json!({"replicas": 2, "readyReplicas": 1}),
        warning: NO_CONTROLLER,
        columns: &["Name", "Desired", "Current", "Ready", "Age"],
        cells: vec![json!("x"), json!(1), json!(2), json!(1)],
    }
}

fn stateful_set() -> Case {
    let mut wrong = wrong_templates();
    wrong.extend([
        (
            "/spec/podManagementPolicy",
            json!("Odd"),
            "FieldValueInvalid",
            "spec.podManagementPolicy",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "Odd"}),
            "FieldValueInvalid",
            "spec.updateStrategy",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            "FieldValueInvalid",
            "spec.updateStrategy.rollingUpdate",
        ),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Odd"}),
            "FieldValueNotSupported",
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        ),
        (
            "/spec/template/spec/containers/0/volumeMounts",
            json!([{"name": "missing", "mountPath": "/m"}]),
            "FieldValueNotFound",
            "spec.template.spec.containers[0].volumeMounts[0].name",
        ),
    ]);
    let claim = json!({"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mut minimal = selected(json!({"serviceName": "s", "volumeClaimTemplates": [claim]}));
    minimal["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    Case {
        path: "/apis/apps/v1/namespaces/default/statefulsets",
        names: ("StatefulSet", &["sts"]),
        minimal,
        defaults: vec![
            ("/spec/podManagementPolicy", json!("OrderedReady")),
            (
                "/spec/updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            ),
            (
                "/spec/volumeClaimTemplates/0/spec/volumeMode",
                json!("Filesystem"),
            ),
            (
                "/spec/volumeClaimTemplates/0/status/phase",
                json!("Pending"),
            ),
            ("/status/availableReplicas", json!(0)),
        ],
        wrong,
        fixed: vec![
            (
                "/spec/serviceName",
                json!("other"),
                "FieldValueForbidden",
                "spec",
            ),
            (
                "/spec/podManagementPolicy",
                json!("Parallel"),
                "FieldValueForbidden",
                "spec",
            ),
        ],
        status: json!({"replicas": 2, "readyReplicas": 1, "currentRevision": "r"}),
        warning: NO_CONTROLLER,
        columns: &["Name", "Ready", "Age"],
        cells: vec![json!("x"), json!("1/1")],
    }
}

fn daemon_set() -> Case {
    let mut wrong = wrong_templates();
    wrong.extend([
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
            "FieldValueInvalid",
            "spec.updateStrategy.rollingUpdate.maxSurge",
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": 0}}),
            "FieldValueRequired",
            "spec.updateStrategy.rollingUpdate.maxUnavailable",
        ),
    ]);
    Case {
        path: "/apis/apps/v1/namespaces/default/daemonsets",
        names: ("DaemonSet", &["ds"]),
        minimal: selected(json!({})),
        defaults: vec![
            (
                "/spec/updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
            ),
            ("/spec/revisionHistoryLimit", json!(10)),
            (
                "/metadata/annotations",
                json!({"deprecated.daemonset.template.generation": "1"}),
            ),
        ],
        wrong,
        fixed: vec![(
            "/spec/selector",
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            "FieldValueInvalid",
            "spec.selector",
        )],
        status: json!({"desiredNumberScheduled": 3, "numberReady": 2}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Desired",
            "Current",
            "Ready",
            "Up-to-date",
            "Available",
            "Node Selector",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!(3),
            json!(0),
            json!(2),
            json!(0),
            json!(0),
            json!("<none>"),
        ],
    }
}

fn replication_controller() -> Case {
    Case {
        path: "/api/v1/namespaces/default/replicationcontrollers",
        names: ("ReplicationController", &["rc"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"template": template()}}),
        defaults: vec![
            ("/spec/replicas", json!(1)),
            ("/spec/selector", json!({"app": "web"})),
            ("/metadata/labels", json!({"app": "web"})),
        ],
        wrong: vec![
            (
                "/spec/replicas",
                json!(-1),
                "FieldValueInvalid",
                "spec.replicas",
            ),
            (
                "/spec/template",
                json!(null),
                "FieldValueRequired",
                "spec.template",
            ),
            (
                "/spec/selector",
                json!({"app": "other"}),
                "FieldValueInvalid",
                "spec.template.metadata.labels",
            ),
        ],
        fixed: vec![],
        status: json!({"replicas": 2, "readyReplicas": 1}),
        warning: NO_CONTROLLER,
        columns: &["Name", "Desired", "Current", "Ready", "Age"],
        cells: vec![json!("x"), json!(1), json!(2), json!(1)],
    }
}

fn job() -> Case {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    Case {
        path: "/apis/batch/v1/namespaces/default/jobs",
        names: ("Job", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"template": template}}),
        defaults: vec![
            ("/spec/completions", json!(1)),
            ("/spec/parallelism", json!(1)),
            ("/spec/backoffLimit", json!(6)),
            ("/spec/completionMode", json!("NonIndexed")),
            ("/spec/suspend", json!(false)),
            ("/spec/manualSelector", json!(false)),
            ("/spec/podReplacementPolicy", json!("TerminatingOrFailed")),
            ("/spec/template/metadata/labels/job-name", json!("x")),
            (
                "/spec/template/metadata/labels/batch.kubernetes.io~1job-name",
                json!("x"),
            ),
            ("/metadata/labels/app", json!("web")),
        ],
        wrong: vec![
            (
                "/spec/template/spec/restartPolicy",
                json!("Always"),
                "FieldValueNotSupported",
                "spec.template.spec.restartPolicy",
            ),
            (
                "/spec/parallelism",
                json!(-1),
                "FieldValueInvalid",
                "spec.parallelism",
            ),
            (
                "/spec/completionMode",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.completionMode",
            ),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                "FieldValueInvalid",
                "spec.backoffLimitPerIndex",
            ),
            (
                "/spec/template/metadata/labels/job-name",
                json!("other"),
                "FieldValueInvalid",
                "spec.template.metadata.labels[job-name]",
            ),
            (
                "/spec/manualSelector",
                json!(true),
                "FieldValueRequired",
                "spec.selector",
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}]}),
                "FieldValueInvalid",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]",
            ),
            (
                "/spec/managedBy",
                json!("nobody"),
                "FieldValueInvalid",
                "spec.managedBy",
            ),
        ],
        fixed: vec![
            (
                "/spec/template/spec/containers/0/image",
                json!("other"),
                "FieldValueInvalid",
                "spec.template",
            ),
            (
                "/spec/completions",
                json!(5),
                "FieldValueInvalid",
                "spec.completions",
            ),
            (
                "/spec/selector/matchLabels/more",
                json!("x"),
                "FieldValueInvalid",
                "spec.selector",
            ),
        ],
        status: json!({"active": 1}),
        warning: NO_CONTROLLER,
        columns: &["Name", "Status", "Completions", "Duration", "Age"],
        cells: vec![],
    }
}

fn cron_job() -> Case {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("OnFailure");
    let job = json!({"spec": {"template": template}});
    Case {
        path: "/apis/batch/v1/namespaces/default/cronjobs",
        names: ("CronJob", &["cj"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": job}}),
        defaults: vec![
            ("/spec/concurrencyPolicy", json!("Allow")),
            ("/spec/suspend", json!(false)),
            ("/spec/successfulJobsHistoryLimit", json!(3)),
            ("/spec/failedJobsHistoryLimit", json!(1)),
            (
                "/spec/jobTemplate/spec/template/spec/dnsPolicy",
                json!("ClusterFirst"),
            ),
        ],
        wrong: vec![
            (
                "/spec/schedule",
                json!("every day"),
                "FieldValueInvalid",
                "spec.schedule",
            ),
            (
                "/spec/schedule",
                json!("TZ=UTC * * * * *"),
                "FieldValueInvalid",
                "spec.schedule",
            ),
            (
                "/spec/schedule",
                json!(""),
                "FieldValueRequired",
                "spec.schedule",
            ),
            (
                "/spec/timeZone",
                json!("local"),
                "FieldValueInvalid",
                "spec.timeZone",
            ),
            (
                "/spec/concurrencyPolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.concurrencyPolicy",
            ),
            (
                "/spec/jobTemplate/spec/selector",
                json!({"matchLabels": {"a": "b"}}),
                "FieldValueInvalid",
                "spec.jobTemplate.spec.selector",
            ),
            (
                "/metadata/name",
                json!("x".repeat(53)),
                "FieldValueInvalid",
                "metadata.name",
            ),
        ],
        fixed: vec![],
        status: json!({"active": [{"kind": "Job", "name": "j"}]}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Schedule",
            "Timezone",
            "Suspend",
            "Active",
            "Last Schedule",
            "Age",
        ],
        cells: vec![],
    }
}

fn controller_revision() -> Case {
    Case {
        path: "/apis/apps/v1/namespaces/default/controllerrevisions",
        names: ("ControllerRevision", &[]),
        minimal: json!({"metadata": {"name": "x"}, "data": {"a": 1}, "revision": 1}),
        defaults: vec![],
        wrong: vec![
            ("/data", json!(null), "FieldValueRequired", "data"),
            ("/revision", json!(-1), "FieldValueInvalid", "revision"),
        ],
        fixed: vec![("/data", json!({"a": 2}), "FieldValueInvalid", "data")],
        status: Value::Null,
        warning: "",
        columns: &["Name", "Controller", "Revision", "Age"],
        cells: vec![json!("x"), json!("<none>"), json!(1)],
    }
}

fn pod_template() -> Case {
    Case {
        path: "/api/v1/namespaces/default/podtemplates",
        names: ("PodTemplate", &[]),
        minimal: json!({"metadata": {"name": "x"}, "template": template()}),
        defaults: vec![("/template/spec/restartPolicy", json!("Always"))],
        wrong: vec![(
            "/template/spec/containers",
            json!([]),
            "FieldValueRequired",
            "template.spec.containers",
        )],
        fixed: vec![],
        status: Value::Null,
        warning: "",
        columns: &["Name", "Containers", "Images", "Pod Labels"],
        cells: vec![
            json!("x"),
            json!("c"),
            json!("nginx:1.27"),
            json!("app=web"),
        ],
    }
}

fn autoscaler() -> Case {
    Case {
        path: "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
        names: ("HorizontalPodAutoscaler", &["hpa"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        defaults: vec![
            ("/spec/minReplicas", json!(1)),
            (
                "/spec/metrics",
                json!([{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}]),
            ),
        ],
        wrong: vec![
            (
                "/spec/maxReplicas",
                json!(0),
                "FieldValueInvalid",
                "spec.maxReplicas",
            ),
            (
                "/spec/minReplicas",
                json!(4),
                "FieldValueInvalid",
                "spec.maxReplicas",
            ),
            (
                "/spec/scaleTargetRef/name",
                json!(""),
                "FieldValueRequired",
                "spec.scaleTargetRef.name",
            ),
            (
                "/spec/metrics",
                json!([{"type": "Resource"}]),
                "FieldValueRequired",
                "spec.metrics[0].resource",
            ),
            (
                "/spec/behavior",
                json!({"scaleUp": {"stabilizationWindowSeconds": 4000}}),
                "FieldValueInvalid",
                "spec.behavior.scaleUp.stabilizationWindowSeconds",
            ),
        ],
        fixed: vec![],
        status: json!({"currentReplicas": 1, "desiredReplicas": 2}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Reference",
            "Targets",
            "MinPods",
            "MaxPods",
            "Replicas",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("Deployment/d"),
            json!("cpu: <unknown>/80%"),
            json!("1"),
            json!(3),
            json!(1),
        ],
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut job = job();
    job.cells = vec![json!("x"), json!("Running"), json!("0/1"), json!("")];
    let mut cron = cron_job();
    cron.cells = vec![
        json!("x"),
        json!("*/5 * * * *"),
        json!("<none>"),
        json!("False"),
        json!(1),
        json!("<none>"),
    ];
    vec![
        deployment(),
        replica_set(),
        stateful_set(),
        daemon_set(),
        replication_controller(),
        job,
        cron,
        controller_revision(),
        pod_template(),
        autoscaler(),
    ]
}
