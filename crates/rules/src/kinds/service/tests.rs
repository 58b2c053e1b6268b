use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    let mut service: Service =
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec}))
            .unwrap();
    service.default();
    service
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect()
}

#[test]
fn status_and_spec_are_written_apart() {
    let with = |cluster_ip: &str, ip: &str| {
        let mut service = service(json!({"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]}));
        service.status =
            serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": ip}]}})).unwrap();
        service
    };
    let old = with("10.0.0.1", "1.1.1.1");
    let new = with("10.0.0.2", "2.2.2.2");
    let mut updated = new.clone();
    updated.prepare_update(&old, &FeatureGates::default());
    assert_eq!(updated, with("10.0.0.2", "1.1.1.1"));
    let mut status = new;
    status.prepare_status(&old);
    assert_eq!(status, with("10.0.0.1", "2.2.2.2"));
}

#[test]
fn services() {
    for (spec, want) in [
        (json!({"ports": [{"port": 80}]}), vec![]),
        (json!({"clusterIP": "None", "clusterIPs": ["None"]}), vec![]),
        (
            json!({"type": "ExternalName", "externalName": "a.example."}),
            vec![],
        ),
        (json!({}), vec!["FieldValueRequired spec.ports"]),
        (
            json!({"type": "ExternalName"}),
            vec!["FieldValueRequired spec.externalName"],
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 70000}]}),
            vec!["FieldValueInvalid spec.ports[0].nodePort"],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            vec!["FieldValueForbidden spec.ports[0].nodePort"],
        ),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}),
            vec![
                "FieldValueDuplicate spec.ports[1].name",
                "FieldValueDuplicate spec.ports[1]",
            ],
        ),
        (
            json!({"ports": [{"port": 80}, {"port": 0, "name": "b", "targetPort": "UPPER"}]}),
            vec![
                "FieldValueRequired spec.ports[0].name",
                "FieldValueInvalid spec.ports[1].port",
                "FieldValueInvalid spec.ports[1].targetPort",
                "FieldValueInvalid spec.ports[1].targetPort",
            ],
        ),
        (
            json!({"type": "Odd", "sessionAffinity": "Odd", "ports": [{"port": 1, "protocol": "ICMP"}]}),
            vec![
                "FieldValueNotSupported spec.ports[0].protocol",
                "FieldValueNotSupported spec.sessionAffinity",
                "FieldValueNotSupported spec.type",
            ],
        ),
        (
            json!({"ports": [{"port": 1}], "externalIPs": ["127.0.0.1", "x"], "clusterIP": "1.2", "clusterIPs": ["1.2"]}),
            vec![
                "FieldValueInvalid spec.externalIPs[0]",
                "FieldValueInvalid spec.externalIPs[1]",
                "FieldValueInvalid spec.clusterIPs[0]",
            ],
        ),
    ] {
        let got = causes(&service(spec.clone()).validate());
        assert_eq!(got, want, "{spec}");
    }
}

#[test]
fn what_was_allocated_stays_and_what_is_of_another_type_goes() {
    let gates = FeatureGates::default();
    let old = service(
        json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let mut same = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
    same.prepare_update(&old, &gates);
    assert_eq!(same.spec, old.spec);
    let mut inner = old.clone();
    inner.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
    inner.prepare_update(&old, &gates);
    let spec = inner.spec.as_ref().unwrap();
    assert_eq!(spec.ports.as_ref().unwrap()[0].node_port, None);
    assert_eq!(spec.external_traffic_policy, None);
    let mut moved = service(json!({"clusterIP": "10.0.0.2", "ports": [{"port": 80}]}));
    moved.metadata.resource_version = Some("1".to_owned());
    moved.prepare_update(&old, &gates);
    assert_eq!(
        causes(&moved.validate_update(&old)),
        ["FieldValueInvalid spec.clusterIPs[0]"]
    );
}
