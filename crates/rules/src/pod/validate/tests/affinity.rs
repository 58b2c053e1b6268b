//! Affinity and topology spread.

use serde_json::{Value, json};

use super::{causes, pod, spec};
use crate::Rules as _;

#[test]
fn affinity_and_spread() {
    let node = |term: Value| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
        )
    };
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let got = |spec: Value| causes(&pod(spec).validate());
    assert_eq!(
        got(node(
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]})
        )),
        Vec::<String>::new()
    );
    assert_eq!(
        got(node(
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]})
        )),
        [format!(
            "FieldValueRequired {required}[0].matchExpressions[0].values"
        )]
    );
    assert_eq!(
        got(node(
            json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["b"]}]})
        )),
        [format!(
            "FieldValueInvalid {required}[0].matchFields[0].key"
        )]
    );
    assert_eq!(
        got(spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}})
        )),
        [format!("FieldValueRequired {required}")]
    );
    let anti = "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
    assert_eq!(
        got(spec(
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 0, "podAffinityTerm": {"topologyKey": "", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}}]}}})
        )),
        [
            format!(
                "FieldValueInvalid {anti}.podAffinityTerm.labelSelector.matchExpressions[0].operator"
            ),
            format!("FieldValueInvalid {anti}.podAffinityTerm.topologyKey"),
            format!("FieldValueInvalid {anti}.weight"),
            format!("FieldValueRequired {anti}.podAffinityTerm.topologyKey")
        ]
    );
    let spread = |c: Value| spec(json!({"topologySpreadConstraints": [c]}));
    assert_eq!(
        got(spread(
            json!({"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Odd", "minDomains": 1})
        )),
        [
            "FieldValueInvalid spec.topologySpreadConstraints[0].maxSkew",
            "FieldValueInvalid spec.topologySpreadConstraints[0].minDomains",
            "FieldValueNotSupported spec.topologySpreadConstraints[0].whenUnsatisfiable",
            "FieldValueRequired spec.topologySpreadConstraints[0].topologyKey"
        ]
    );
}
