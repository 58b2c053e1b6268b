//! Kinds without a namespace.

use serde_json::{Value, json};

use super::Case;

const NO_CONTROLLER: &str = "nothing acts on it until a kube-controller-manager runs";
/// For CN=ann, O=dev.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIVk1INENBUUF3SERFTU1Bb0dBMVVFQ2d3RFpHVjJNUXd3Q2dZRFZRUUREQU5oYm00d1dUQVRCZ2NxaGtqTwpQUUlCQmdncWhrak9QUU1CQndOQ0FBUWxIb1lLdnpIYW1wUWVJSnMyYmxNZCs1MXZJejhmNGg3cXlIREdZdlZwCmRCOFphWFp0SlZlTVdOdjBhL3EyMVk5YmppSW45NktFdjVoNjMzWXhLcDJDb0FBd0NnWUlLb1pJemowRUF3SUQKUndBd1JBSWdFMGJHc0NWeWNZME4vZnhFUEFyR2JWVjJ2K2o0R0pxa0ZsZm01OXNrVkVjQ0lBYkZvV1dON0FJZgpzN1JicGdXQmZKYnJQcHV1Ti8zOFdYTmErUC9FaEJIVAotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";

fn volume() -> Case {
    Case {
        path: "/api/v1/persistentvolumes",
        names: ("PersistentVolume", &["pv"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}}}),
        defaults: vec![
            ("/spec/persistentVolumeReclaimPolicy", json!("Retain")),
            ("/spec/volumeMode", json!("Filesystem")),
            ("/spec/hostPath/type", json!("")),
            ("/status/phase", json!("Pending")),
        ],
        wrong: vec![
            (
                "/spec/accessModes",
                json!([]),
                "FieldValueRequired",
                "spec.accessModes",
            ),
            (
                "/spec/capacity",
                json!({}),
                "FieldValueRequired",
                "spec.capacity",
            ),
            (
                "/spec/capacity",
                json!({"cpu": "1"}),
                "FieldValueNotSupported",
                "spec.capacity",
            ),
            (
                "/spec/capacity/storage",
                json!("0"),
                "FieldValueInvalid",
                "spec.capacity[storage]",
            ),
            ("/spec/hostPath", json!(null), "FieldValueRequired", "spec"),
            (
                "/spec/nfs",
                json!({"server": "s", "path": "/"}),
                "FieldValueForbidden",
                "spec.nfs",
            ),
            (
                "/spec/hostPath/path",
                json!("/a/../b"),
                "FieldValueInvalid",
                "spec.hostPath.path",
            ),
            (
                "/spec/persistentVolumeReclaimPolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.persistentVolumeReclaimPolicy",
            ),
            (
                "/spec/nodeAffinity",
                json!({}),
                "FieldValueRequired",
                "spec.nodeAffinity.required",
            ),
        ],
        fixed: vec![
            (
                "/spec/hostPath/path",
                json!("/other"),
                "FieldValueForbidden",
                "spec.persistentvolumesource",
            ),
            (
                "/spec/volumeMode",
                json!("Block"),
                "FieldValueInvalid",
                "spec.volumeMode",
            ),
        ],
        status: json!({"phase": "Available"}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("1Gi"),
            json!("RWO,ROX"),
            json!("Retain"),
            json!("Available"),
            json!(""),
            json!(""),
            json!("<unset>"),
            json!(""),
        ],
    }
}

fn storage_class() -> Case {
    Case {
        path: "/apis/storage.k8s.io/v1/storageclasses",
        names: ("StorageClass", &["sc"]),
        minimal: json!({"metadata": {"name": "x"}, "provisioner": "example.com/disk"}),
        defaults: vec![
            ("/reclaimPolicy", json!("Delete")),
            ("/volumeBindingMode", json!("Immediate")),
        ],
        wrong: vec![
            (
                "/provisioner",
                json!(""),
                "FieldValueRequired",
                "provisioner",
            ),
            (
                "/reclaimPolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "reclaimPolicy",
            ),
            (
                "/volumeBindingMode",
                json!("Odd"),
                "FieldValueNotSupported",
                "volumeBindingMode",
            ),
            (
                "/parameters",
                json!({"": "x"}),
                "FieldValueInvalid",
                "parameters",
            ),
        ],
        fixed: vec![
            (
                "/provisioner",
                json!("example.com/other"),
                "FieldValueForbidden",
                "provisioner",
            ),
            (
                "/parameters",
                json!({"a": "b"}),
                "FieldValueForbidden",
                "parameters",
            ),
            (
                "/reclaimPolicy",
                json!("Retain"),
                "FieldValueForbidden",
                "reclaimPolicy",
            ),
        ],
        status: Value::Null,
        warning: "",
        columns: &[
            "Name",
            "Provisioner",
            "ReclaimPolicy",
            "VolumeBindingMode",
            "AllowVolumeExpansion",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("example.com/disk"),
            json!("Delete"),
            json!("Immediate"),
            json!(false),
        ],
    }
}

fn attributes_class() -> Case {
    Case {
        path: "/apis/storage.k8s.io/v1/volumeattributesclasses",
        names: ("VolumeAttributesClass", &["vac"]),
        minimal: json!({"metadata": {"name": "x"}, "driverName": "d.example", "parameters": {"a": "b"}}),
        defaults: vec![],
        wrong: vec![
            ("/driverName", json!(""), "FieldValueRequired", "driverName"),
            ("/parameters", json!({}), "FieldValueRequired", "parameters"),
        ],
        fixed: vec![(
            "/driverName",
            json!("e.example"),
            "FieldValueInvalid",
            "driverName",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "DriverName", "Age"],
        cells: vec![json!("x"), json!("d.example")],
    }
}

fn attachment() -> Case {
    Case {
        path: "/apis/storage.k8s.io/v1/volumeattachments",
        names: ("VolumeAttachment", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"attacher": "d.example", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        defaults: vec![("/status/attached", json!(false))],
        wrong: vec![
            (
                "/spec/attacher",
                json!(""),
                "FieldValueRequired",
                "spec.attacher",
            ),
            (
                "/spec/nodeName",
                json!("N"),
                "FieldValueInvalid",
                "spec.nodeName",
            ),
            (
                "/spec/source",
                json!({}),
                "FieldValueRequired",
                "spec.source",
            ),
        ],
        fixed: vec![("/spec/nodeName", json!("m"), "FieldValueInvalid", "spec")],
        status: json!({"attached": true}),
        warning: "",
        columns: &["Name", "Attacher", "PV", "Node", "Attached", "Age"],
        cells: vec![
            json!("x"),
            json!("d.example"),
            json!("v"),
            json!("n"),
            json!(true),
        ],
    }
}

fn csi_driver() -> Case {
    Case {
        path: "/apis/storage.k8s.io/v1/csidrivers",
        names: ("CSIDriver", &[]),
        minimal: json!({"metadata": {"name": "d.example"}, "spec": {}}),
        defaults: vec![
            ("/spec/attachRequired", json!(true)),
            ("/spec/podInfoOnMount", json!(false)),
            ("/spec/fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("/spec/volumeLifecycleModes", json!(["Persistent"])),
        ],
        wrong: vec![
            (
                "/spec/fsGroupPolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.fsGroupPolicy",
            ),
            (
                "/spec/volumeLifecycleModes",
                json!(["Odd"]),
                "FieldValueNotSupported",
                "spec.volumeLifecycleModes",
            ),
        ],
        fixed: vec![(
            "/spec/attachRequired",
            json!(false),
            "FieldValueInvalid",
            "spec.attachRequired",
        )],
        status: Value::Null,
        warning: "",
        columns: &[
            "Name",
            "AttachRequired",
            "PodInfoOnMount",
            "StorageCapacity",
            "TokenRequests",
            "RequiresRepublish",
            "Modes",
            "Age",
        ],
        cells: vec![
            json!("d.example"),
            json!(true),
            json!(false),
            json!(false),
            json!("<unset>"),
            json!(false),
            json!("Persistent"),
        ],
    }
}

fn ingress_class() -> Case {
    Case {
        path: "/apis/networking.k8s.io/v1/ingressclasses",
        names: ("IngressClass", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"controller": "example.com/c",
            "parameters": {"kind": "K", "name": "p"}}}),
        defaults: vec![("/spec/parameters/scope", json!("Cluster"))],
        wrong: vec![
            (
                "/spec/controller",
                json!(""),
                "FieldValueRequired",
                "spec.controller",
            ),
            (
                "/spec/controller",
                json!("c"),
                "FieldValueInvalid",
                "spec.controller",
            ),
            (
                "/spec/parameters/namespace",
                json!("n"),
                "FieldValueForbidden",
                "spec.parameters.namespace",
            ),
        ],
        fixed: vec![(
            "/spec/controller",
            json!("example.com/d"),
            "FieldValueInvalid",
            "spec.controller",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "Controller", "Parameters", "Age"],
        cells: vec![json!("x"), json!("example.com/c"), json!("K/p")],
    }
}

fn ip_address() -> Case {
    Case {
        path: "/apis/networking.k8s.io/v1/ipaddresses",
        names: ("IPAddress", &["ip"]),
        minimal: json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "n"}}}),
        defaults: vec![],
        wrong: vec![
            (
                "/metadata/name",
                json!("x"),
                "FieldValueInvalid",
                "metadata.name",
            ),
            (
                "/spec/parentRef",
                json!({}),
                "FieldValueRequired",
                "spec.parentRef",
            ),
            (
                "/spec/parentRef/name",
                json!(""),
                "FieldValueRequired",
                "spec.parentRef.name",
            ),
        ],
        fixed: vec![(
            "/spec/parentRef/name",
            json!("t"),
            "FieldValueInvalid",
            "spec.parentRef",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "ParentRef"],
        cells: vec![json!("10.0.0.1"), json!("services/n/s")],
    }
}

fn service_cidr() -> Case {
    Case {
        path: "/apis/networking.k8s.io/v1/servicecidrs",
        names: ("ServiceCIDR", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["10.0.0.0/16"]}}),
        defaults: vec![],
        wrong: vec![
            ("/spec/cidrs", json!([]), "FieldValueRequired", "spec.cidrs"),
            (
                "/spec/cidrs/0",
                json!("10.0.0.0"),
                "FieldValueInvalid",
                "spec.cidrs[0]",
            ),
        ],
        fixed: vec![(
            "/spec/cidrs/0",
            json!("10.1.0.0/16"),
            "FieldValueInvalid",
            "spec.cidrs",
        )],
        status: json!({"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        warning: "",
        columns: &["Name", "CIDRs", "Age"],
        cells: vec![json!("x"), json!("10.0.0.0/16")],
    }
}

fn signing_request() -> Case {
    Case {
        path: "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        names: ("CertificateSigningRequest", &["csr"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"request": REQUEST, "signerName": "example.com/own",
            "usages": ["client auth"]}}),
        defaults: vec![
            ("/spec/username", json!("admin")),
            (
                "/spec/groups",
                json!(["system:masters", "system:authenticated"]),
            ),
        ],
        wrong: vec![
            (
                "/spec/request",
                json!("eA=="),
                "FieldValueInvalid",
                "spec.request",
            ),
            (
                "/spec/usages",
                json!([]),
                "FieldValueRequired",
                "spec.usages",
            ),
            (
                "/spec/usages",
                json!(["fun"]),
                "FieldValueNotSupported",
                "spec.usages[0]",
            ),
            (
                "/spec/signerName",
                json!("own"),
                "FieldValueInvalid",
                "spec.signerName",
            ),
            (
                "/spec/signerName",
                json!("kubernetes.io/legacy-unknown"),
                "FieldValueInvalid",
                "spec.signerName",
            ),
            (
                "/spec/expirationSeconds",
                json!(1),
                "FieldValueInvalid",
                "spec.expirationSeconds",
            ),
        ],
        fixed: vec![],
        status: json!({"conditions": [{"type": "Failed", "status": "True", "reason": "r",
            "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Age",
            "SignerName",
            "Requestor",
            "RequestedDuration",
            "Condition",
        ],
        cells: vec![
            json!("x"),
            json!("example.com/own"),
            json!("admin"),
            json!("<none>"),
            json!("Pending,Failed"),
        ],
    }
}

fn webhook() -> Value {
    let webhook = json!({"name": "a.b.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    json!({"metadata": {"name": "x"}, "webhooks": [webhook]})
}

fn webhooks(path: &'static str, kind: &'static str) -> Case {
    Case {
        path,
        names: (kind, &[]),
        minimal: webhook(),
        defaults: vec![
            ("/webhooks/0/failurePolicy", json!("Fail")),
            ("/webhooks/0/matchPolicy", json!("Equivalent")),
            ("/webhooks/0/timeoutSeconds", json!(10)),
            ("/webhooks/0/namespaceSelector", json!({})),
            ("/webhooks/0/rules/0/scope", json!("*")),
            ("/webhooks/0/clientConfig/service/port", json!(443)),
        ],
        wrong: vec![
            (
                "/webhooks/0/name",
                json!("short"),
                "FieldValueInvalid",
                "webhooks[0].name",
            ),
            (
                "/webhooks/0/sideEffects",
                json!("Some"),
                "FieldValueNotSupported",
                "webhooks[0].sideEffects",
            ),
            (
                "/webhooks/0/timeoutSeconds",
                json!(31),
                "FieldValueInvalid",
                "webhooks[0].timeoutSeconds",
            ),
            (
                "/webhooks/0/clientConfig",
                json!({}),
                "FieldValueRequired",
                "webhooks[0].clientConfig",
            ),
            (
                "/webhooks/0/clientConfig",
                json!({"url": "http://a.example"}),
                "FieldValueInvalid",
                "webhooks[0].clientConfig.url",
            ),
            (
                "/webhooks/0/admissionReviewVersions",
                json!(["v0"]),
                "FieldValueInvalid",
                "webhooks[0].admissionReviewVersions",
            ),
            (
                "/webhooks/0/rules/0/operations",
                json!([]),
                "FieldValueRequired",
                "webhooks[0].rules[0].operations",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "is not enforced by this server",
        columns: &["Name", "Webhooks", "Age"],
        cells: vec![json!("x"), json!(1)],
    }
}

fn constraints() -> Value {
    json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
}

fn validating_policy() -> Case {
    Case {
        path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        names: ("ValidatingAdmissionPolicy", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"matchConstraints": constraints(),
            "validations": [{"expression": "true"}]}}),
        defaults: vec![
            ("/spec/failurePolicy", json!("Fail")),
            ("/spec/matchConstraints/matchPolicy", json!("Equivalent")),
        ],
        wrong: vec![
            (
                "/spec/validations",
                json!([]),
                "FieldValueRequired",
                "spec.validations",
            ),
            (
                "/spec/validations/0/expression",
                json!(" "),
                "FieldValueRequired",
                "spec.validations[0].expression",
            ),
            (
                "/spec/matchConstraints",
                json!(null),
                "FieldValueRequired",
                "spec.matchConstraints",
            ),
            (
                "/spec/failurePolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.failurePolicy",
            ),
        ],
        fixed: vec![],
        status: json!({"observedGeneration": 1}),
        warning: "is not enforced by this server",
        columns: &["Name", "Validations", "ParamKind", "Age"],
        cells: vec![json!("x"), json!(1), json!("<unset>")],
    }
}

fn validating_binding() -> Case {
    Case {
        path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        names: ("ValidatingAdmissionPolicyBinding", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        defaults: vec![],
        wrong: vec![
            (
                "/spec/policyName",
                json!(""),
                "FieldValueRequired",
                "spec.policyName",
            ),
            (
                "/spec/validationActions",
                json!([]),
                "FieldValueRequired",
                "spec.validationActions",
            ),
            (
                "/spec/validationActions",
                json!(["Deny", "Warn"]),
                "FieldValueInvalid",
                "spec.validationActions",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "is not enforced by this server",
        columns: &["Name", "PolicyName", "ParamRef", "Age"],
        cells: vec![json!("x"), json!("p"), json!("<unset>")],
    }
}

fn mutating_policy() -> Case {
    Case {
        path: "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
        names: ("MutatingAdmissionPolicy", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"matchConstraints": constraints(), "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        defaults: vec![("/spec/reinvocationPolicy", json!("Never"))],
        wrong: vec![
            (
                "/spec/mutations",
                json!([]),
                "FieldValueRequired",
                "spec.mutations",
            ),
            (
                "/spec/mutations/0/patchType",
                json!("ApplyConfiguration"),
                "FieldValueRequired",
                "spec.mutations[0].applyConfiguration",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "is not enforced by this server",
        columns: &["Name", "Mutations", "ParamKind", "Age"],
        cells: vec![json!("x"), json!(1), json!("<unset>")],
    }
}

fn mutating_binding() -> Case {
    Case {
        path: "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
        names: ("MutatingAdmissionPolicyBinding", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"policyName": "p", "paramRef":
            {"name": "q", "parameterNotFoundAction": "Deny"}}}),
        defaults: vec![],
        wrong: vec![
            (
                "/spec/policyName",
                json!(""),
                "FieldValueRequired",
                "spec.policyName",
            ),
            (
                "/spec/paramRef/name",
                json!(""),
                "FieldValueRequired",
                "spec.paramRef",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "is not enforced by this server",
        columns: &["Name", "PolicyName", "ParamRef", "Age"],
        cells: vec![json!("x"), json!("p"), json!("q")],
    }
}

fn flow_schema() -> Case {
    Case {
        path: "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
        names: ("FlowSchema", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "u"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}}),
        defaults: vec![("/spec/matchingPrecedence", json!(1000))],
        wrong: vec![
            (
                "/spec/matchingPrecedence",
                json!(10001),
                "FieldValueInvalid",
                "spec.matchingPrecedence",
            ),
            (
                "/spec/priorityLevelConfiguration/name",
                json!(""),
                "FieldValueRequired",
                "spec.priorityLevelConfiguration.name",
            ),
            (
                "/spec/rules/0/subjects",
                json!([]),
                "FieldValueRequired",
                "spec.rules[0].subjects",
            ),
            (
                "/spec/rules/0/subjects/0/kind",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.rules[0].subjects[0].kind",
            ),
        ],
        fixed: vec![],
        status: json!({"conditions": [{"type": "Dangling", "status": "True"}]}),
        warning: "is not honoured by this server",
        columns: &[
            "Name",
            "PriorityLevel",
            "MatchingPrecedence",
            "DistinguisherMethod",
            "Age",
            "MissingPL",
        ],
        cells: vec![
            json!("x"),
            json!("l"),
            json!(1000),
            json!("<none>"),
            json!("True"),
        ],
    }
}

fn priority_level() -> Case {
    Case {
        path: "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        names: ("PriorityLevelConfiguration", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}}),
        defaults: vec![
            ("/spec/limited/nominalConcurrencyShares", json!(30)),
            ("/spec/limited/lendablePercent", json!(0)),
            (
                "/spec/limited/limitResponse/queuing",
                json!({"handSize": 8, "queueLengthLimit": 50, "queues": 64}),
            ),
        ],
        wrong: vec![
            (
                "/spec/type",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.type",
            ),
            (
                "/spec/limited/lendablePercent",
                json!(101),
                "FieldValueInvalid",
                "spec.limited.lendablePercent",
            ),
            (
                "/spec/limited/limitResponse/queuing",
                json!({"queues": 1, "handSize": 2}),
                "FieldValueInvalid",
                "spec.limited.limitResponse.queuing.handSize",
            ),
        ],
        fixed: vec![],
        status: json!({"conditions": [{"type": "A", "status": "True"}]}),
        warning: "is not honoured by this server",
        columns: &[
            "Name",
            "Type",
            "NominalConcurrencyShares",
            "Queues",
            "HandSize",
            "QueueLengthLimit",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("Limited"),
            json!(30),
            json!(64),
            json!(8),
            json!(50),
        ],
    }
}

fn device_class() -> Case {
    Case {
        path: "/apis/resource.k8s.io/v1/deviceclasses",
        names: ("DeviceClass", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
        defaults: vec![],
        wrong: vec![(
            "/spec/selectors/0/cel/expression",
            json!(""),
            "FieldValueRequired",
            "spec.selectors[0].cel.expression",
        )],
        fixed: vec![],
        status: Value::Null,
        warning: "nothing in this server allocates devices",
        columns: &["Name", "Age"],
        cells: vec![json!("x")],
    }
}

fn resource_slice() -> Case {
    Case {
        path: "/apis/resource.k8s.io/v1/resourceslices",
        names: ("ResourceSlice", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"driver": "d.example", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
        defaults: vec![],
        wrong: vec![
            (
                "/spec/driver",
                json!(""),
                "FieldValueRequired",
                "spec.driver",
            ),
            ("/spec/nodeName", json!(""), "FieldValueRequired", "spec"),
            ("/spec/allNodes", json!(true), "FieldValueInvalid", "spec"),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                "FieldValueInvalid",
                "spec.pool.resourceSliceCount",
            ),
        ],
        fixed: vec![(
            "/spec/driver",
            json!("e.example"),
            "FieldValueInvalid",
            "spec.driver",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "Node", "Driver", "Pool", "Age"],
        cells: vec![json!("x"), json!("n"), json!("d.example"), json!("p")],
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut mutating = webhooks(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
    );
    mutating
        .defaults
        .push(("/webhooks/0/reinvocationPolicy", json!("Never")));
    vec![
        volume(),
        storage_class(),
        attributes_class(),
        attachment(),
        csi_driver(),
        ingress_class(),
        ip_address(),
        service_cidr(),
        signing_request(),
        webhooks(
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
        ),
        mutating,
        validating_policy(),
        validating_binding(),
        mutating_policy(),
        mutating_binding(),
        flow_schema(),
        priority_level(),
        device_class(),
        resource_slice(),
    ]
}
