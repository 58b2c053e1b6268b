//! Kinds in namespaces that are no workloads.

use serde_json::{Value, json};

use super::Case;

const NO_CONTROLLER: &str = "nothing acts on it until a kube-controller-manager runs";

fn service() -> Case {
    Case {
        path: "/api/v1/namespaces/default/services",
        names: ("Service", &["svc"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"type": "LoadBalancer", "selector": {"app": "web"},
            "clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30777}]}}),
        defaults: vec![
            ("/spec/sessionAffinity", json!("None")),
            (
                "/spec/ports",
                json!([{"nodePort": 30777, "port": 80, "protocol": "TCP", "targetPort": 80}]),
            ),
            ("/spec/clusterIPs", json!(["10.96.7.7"])),
            ("/spec/ipFamilies", json!(["IPv4"])),
            ("/spec/ipFamilyPolicy", json!("SingleStack")),
            ("/spec/internalTrafficPolicy", json!("Cluster")),
            ("/spec/externalTrafficPolicy", json!("Cluster")),
            ("/spec/allocateLoadBalancerNodePorts", json!(true)),
        ],
        wrong: vec![
            ("/spec/ports", json!([]), "FieldValueRequired", "spec.ports"),
            (
                "/spec/ports/0/nodePort",
                json!(99),
                "FieldValueInvalid",
                "spec.ports[0].nodePort",
            ),
            (
                "/spec/ports/0/port",
                json!(0),
                "FieldValueInvalid",
                "spec.ports[0].port",
            ),
            (
                "/spec/clusterIP",
                json!("None"),
                "FieldValueInvalid",
                "spec.clusterIPs[0]",
            ),
            (
                "/spec/sessionAffinity",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.sessionAffinity",
            ),
            (
                "/spec/selector",
                json!({"-": "x"}),
                "FieldValueInvalid",
                "spec.selector",
            ),
            (
                "/metadata/name",
                json!("1x"),
                "FieldValueInvalid",
                "metadata.name",
            ),
        ],
        fixed: vec![(
            "/spec/loadBalancerClass",
            json!("example.com/a"),
            "FieldValueInvalid",
            "spec.loadBalancerClass",
        )],
        status: json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
        warning: "until a kube-controller-manager runs",
        columns: &[
            "Name",
            "Type",
            "Cluster-IP",
            "External-IP",
            "Port(s)",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("LoadBalancer"),
            json!("10.96.7.7"),
            json!("192.0.2.1"),
            json!("80:30777/TCP"),
        ],
    }
}

fn endpoint_slice() -> Case {
    Case {
        path: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        names: ("EndpointSlice", &[]),
        minimal: json!({"metadata": {"name": "x"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        defaults: vec![
            (
                "/ports",
                json!([{"name": "", "port": 80, "protocol": "TCP"}]),
            ),
            ("/metadata/generation", json!(1)),
        ],
        wrong: vec![
            (
                "/addressType",
                json!("Odd"),
                "FieldValueNotSupported",
                "addressType",
            ),
            (
                "/endpoints/0/addresses",
                json!([]),
                "FieldValueRequired",
                "endpoints[0].addresses",
            ),
            (
                "/endpoints/0/addresses/0",
                json!("fd00::1"),
                "FieldValueInvalid",
                "endpoints[0].addresses[0]",
            ),
            (
                "/endpoints/0/addresses/0",
                json!("127.0.0.1"),
                "FieldValueInvalid",
                "endpoints[0].addresses[0]",
            ),
            (
                "/ports",
                json!([{"port": 1}, {"port": 2}]),
                "FieldValueDuplicate",
                "ports[1].name",
            ),
            (
                "/ports/0/port",
                json!(70000),
                "FieldValueInvalid",
                "ports[0].port",
            ),
        ],
        fixed: vec![(
            "/addressType",
            json!("FQDN"),
            "FieldValueInvalid",
            "addressType",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "AddressType", "Ports", "Endpoints", "Age"],
        cells: vec![json!("x"), json!("IPv4"), json!("80"), json!("10.0.0.1")],
    }
}

fn endpoints() -> Case {
    Case {
        path: "/api/v1/namespaces/default/endpoints",
        names: ("Endpoints", &["ep"]),
        minimal: json!({"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        defaults: vec![("/subsets/0/ports/0/protocol", json!("TCP"))],
        wrong: vec![
            (
                "/subsets/0/addresses",
                json!([]),
                "FieldValueRequired",
                "subsets[0]",
            ),
            (
                "/subsets/0/addresses/0/ip",
                json!("x"),
                "FieldValueInvalid",
                "subsets[0].addresses[0].ip",
            ),
            (
                "/subsets/0/addresses/0/ip",
                json!("169.254.1.1"),
                "FieldValueInvalid",
                "subsets[0].addresses[0].ip",
            ),
            (
                "/subsets/0/ports/0/port",
                json!(0),
                "FieldValueInvalid",
                "subsets[0].ports[0].port",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "",
        columns: &["Name", "Endpoints", "Age"],
        cells: vec![json!("x"), json!("10.0.0.1:80")],
    }
}

fn budget() -> Case {
    Case {
        path: "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
        names: ("PodDisruptionBudget", &["pdb"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}),
        defaults: vec![
            ("/status/disruptionsAllowed", json!(0)),
            ("/status/currentHealthy", json!(0)),
            ("/status/expectedPods", json!(0)),
        ],
        wrong: vec![
            (
                "/spec/maxUnavailable",
                json!(1),
                "FieldValueInvalid",
                "spec",
            ),
            (
                "/spec/minAvailable",
                json!(-1),
                "FieldValueInvalid",
                "spec.minAvailable",
            ),
            (
                "/spec/minAvailable",
                json!("101%"),
                "FieldValueInvalid",
                "spec.minAvailable",
            ),
            (
                "/spec/unhealthyPodEvictionPolicy",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.unhealthyPodEvictionPolicy",
            ),
        ],
        fixed: vec![],
        status: json!({"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Min Available",
            "Max Unavailable",
            "Allowed Disruptions",
            "Age",
        ],
        cells: vec![json!("x"), json!("1"), json!("N/A"), json!(1)],
    }
}

fn network_policy() -> Case {
    Case {
        path: "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
        names: ("NetworkPolicy", &["netpol"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}}),
        defaults: vec![
            ("/spec/policyTypes", json!(["Ingress", "Egress"])),
            ("/spec/egress/0/ports/0/protocol", json!("TCP")),
        ],
        wrong: vec![
            (
                "/spec/ingress/0/from/0",
                json!({}),
                "FieldValueRequired",
                "spec.ingress[0].from[0]",
            ),
            (
                "/spec/ingress/0/from/0/podSelector",
                json!({}),
                "FieldValueForbidden",
                "spec.ingress[0].from[0]",
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/except/0",
                json!("11.0.0.0/16"),
                "FieldValueInvalid",
                "spec.ingress[0].from[0].ipBlock.except[0]",
            ),
            (
                "/spec/egress/0/ports/0/port",
                json!(0),
                "FieldValueInvalid",
                "spec.egress[0].ports[0].port",
            ),
            (
                "/spec/egress/0/ports/0/endPort",
                json!(5),
                "FieldValueInvalid",
                "spec.egress[0].ports[0].endPort",
            ),
            (
                "/spec/policyTypes",
                json!(["Odd"]),
                "FieldValueNotSupported",
                "spec.policyTypes[0]",
            ),
        ],
        fixed: vec![],
        status: Value::Null,
        warning: "is not enforced by this server",
        columns: &["Name", "Pod-Selector", "Age"],
        cells: vec![json!("x"), json!("<none>")],
    }
}

fn ingress() -> Case {
    let path = json!({"path": "/a", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
    Case {
        path: "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
        names: ("Ingress", &["ing"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"rules": [{"host": "a.example", "http": {"paths": [path]}}]}}),
        defaults: vec![],
        wrong: vec![
            ("/spec/rules", json!([]), "FieldValueInvalid", "spec"),
            (
                "/spec/rules/0/host",
                json!("10.0.0.1"),
                "FieldValueInvalid",
                "spec.rules[0].host",
            ),
            (
                "/spec/rules/0/http/paths",
                json!([]),
                "FieldValueRequired",
                "spec.rules[0].http.paths",
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                json!(""),
                "FieldValueRequired",
                "spec.rules[0].http.paths[0].pathType",
            ),
            (
                "/spec/rules/0/http/paths/0/path",
                json!("a"),
                "FieldValueInvalid",
                "spec.rules[0].http.paths[0].path",
            ),
            (
                "/spec/rules/0/http/paths/0/backend",
                json!({}),
                "FieldValueRequired",
                "spec.rules[0].http.paths[0].backend",
            ),
            (
                "/spec/rules/0/http/paths/0/backend/service/port",
                json!({}),
                "FieldValueRequired",
                "spec.rules[0].http.paths[0].backend.service.port",
            ),
        ],
        fixed: vec![],
        status: json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
        warning: "no ingress controller is built into this server",
        columns: &["Name", "Class", "Hosts", "Address", "Ports", "Age"],
        cells: vec![
            json!("x"),
            json!("<none>"),
            json!("a.example"),
            json!("192.0.2.1"),
            json!("80"),
        ],
    }
}

fn claim() -> Case {
    Case {
        path: "/api/v1/namespaces/default/persistentvolumeclaims",
        names: ("PersistentVolumeClaim", &["pvc"]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        defaults: vec![
            ("/spec/volumeMode", json!("Filesystem")),
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
                "/spec/accessModes",
                json!(["Odd"]),
                "FieldValueNotSupported",
                "spec.accessModes",
            ),
            (
                "/spec/accessModes",
                json!(["ReadWriteOncePod", "ReadWriteOnce"]),
                "FieldValueForbidden",
                "spec.accessModes",
            ),
            (
                "/spec/resources/requests",
                json!({}),
                "FieldValueRequired",
                "spec.resources[storage]",
            ),
            (
                "/spec/resources/requests/storage",
                json!("0"),
                "FieldValueInvalid",
                "spec.resources[storage]",
            ),
            (
                "/spec/volumeMode",
                json!("Odd"),
                "FieldValueNotSupported",
                "spec.volumeMode",
            ),
            (
                "/spec/dataSource",
                json!({"kind": "Pod", "name": "p"}),
                "FieldValueInvalid",
                "spec.dataSource",
            ),
        ],
        fixed: vec![(
            "/spec/accessModes",
            json!(["ReadWriteMany"]),
            "FieldValueForbidden",
            "spec",
        )],
        status: json!({"phase": "Bound", "capacity": {"storage": "1Gi"}}),
        warning: NO_CONTROLLER,
        columns: &[
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
        ],
        cells: vec![
            json!("x"),
            json!("Bound"),
            json!(""),
            json!(""),
            json!(""),
            json!(""),
            json!("<unset>"),
        ],
    }
}

fn storage_capacity() -> Case {
    Case {
        path: "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities",
        names: ("CSIStorageCapacity", &[]),
        minimal: json!({"metadata": {"name": "x"}, "storageClassName": "fast", "capacity": "1Gi"}),
        defaults: vec![],
        wrong: vec![
            (
                "/storageClassName",
                json!(""),
                "FieldValueRequired",
                "storageClassName",
            ),
            ("/capacity", json!("-1"), "FieldValueInvalid", "capacity"),
        ],
        fixed: vec![(
            "/storageClassName",
            json!("slow"),
            "FieldValueInvalid",
            "storageClassName",
        )],
        status: Value::Null,
        warning: "",
        columns: &["Name", "StorageClassName", "Capacity"],
        cells: vec![json!("x"), json!("fast"), json!("1Gi")],
    }
}

fn device_claim() -> Value {
    json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}})
}

fn resource_claim() -> Case {
    Case {
        path: "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
        names: ("ResourceClaim", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": device_claim()}),
        defaults: vec![
            (
                "/spec/devices/requests/0/exactly/allocationMode",
                json!("ExactCount"),
            ),
            ("/spec/devices/requests/0/exactly/count", json!(1)),
        ],
        wrong: vec![
            (
                "/spec/devices/requests/0/name",
                json!(""),
                "FieldValueRequired",
                "spec.devices.requests[0].name",
            ),
            (
                "/spec/devices/requests/0/exactly",
                json!(null),
                "FieldValueRequired",
                "spec.devices.requests[0]",
            ),
            (
                "/spec/devices/requests/0/exactly/count",
                json!(-1),
                "FieldValueInvalid",
                "spec.devices.requests[0].exactly.count",
            ),
        ],
        fixed: vec![(
            "/spec/devices/requests/0/name",
            json!("other"),
            "FieldValueInvalid",
            "spec",
        )],
        status: json!({"allocation": {"devices": {}}}),
        warning: "nothing in this server allocates devices",
        columns: &["Name", "State", "Age"],
        cells: vec![json!("x"), json!("allocated")],
    }
}

fn resource_claim_template() -> Case {
    Case {
        path: "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
        names: ("ResourceClaimTemplate", &[]),
        minimal: json!({"metadata": {"name": "x"}, "spec": {"spec": device_claim()}}),
        defaults: vec![("/spec/spec/devices/requests/0/exactly/count", json!(1))],
        wrong: vec![(
            "/spec/spec/devices/requests/0/exactly/deviceClassName",
            json!(""),
            "FieldValueRequired",
            "spec.spec.devices.requests[0].exactly.deviceClassName",
        )],
        fixed: vec![(
            "/spec/spec/devices/requests/0/name",
            json!("other"),
            "FieldValueInvalid",
            "spec",
        )],
        status: Value::Null,
        warning: "nothing in this server allocates devices",
        columns: &["Name", "Age"],
        cells: vec![json!("x")],
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        service(),
        endpoint_slice(),
        endpoints(),
        budget(),
        network_policy(),
        ingress(),
        claim(),
        storage_capacity(),
        resource_claim(),
        resource_claim_template(),
    ]
}
