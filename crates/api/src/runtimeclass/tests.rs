use proptest::prelude::*;
use serde_json::json;

use super::*;

fn v1() -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "gvisor", "labels": {"a": "b"}},
        "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
        "scheduling": {"nodeSelector": {"sandbox": "yes"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
    })
}

fn v1alpha1() -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass",
        "metadata": {"name": "gvisor", "labels": {"a": "b"}},
        "spec": {
            "runtimeHandler": "runsc",
            "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
            "scheduling": {"nodeSelector": {"sandbox": "yes"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
        },
    })
}

#[test]
fn wire_forms_of_the_three_versions() {
    let mut v1beta1 = v1();
    v1beta1["apiVersion"] = json!("node.k8s.io/v1beta1");
    for (version, want) in [
        (Version::V1, v1()),
        (Version::V1Beta1, v1beta1.clone()),
        (Version::V1Alpha1, v1alpha1()),
    ] {
        for from in [v1(), v1beta1.clone(), v1alpha1()] {
            assert_eq!(convert(from, version).unwrap(), want);
        }
    }
}

#[test]
fn lists_convert_item_by_item() {
    let list = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClassList", "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}, "handler": "x"}, v1alpha1()]});
    let got = convert(list, Version::V1Alpha1).unwrap();
    assert_eq!(got["apiVersion"], "node.k8s.io/v1alpha1");
    assert_eq!(
        got["items"][0],
        json!({"metadata": {"name": "a"}, "spec": {"runtimeHandler": "x"}})
    );
    assert_eq!(got["items"][1], v1alpha1());
}

#[test]
fn what_cannot_be_converted_is_refused() {
    for (object, want) in [
        (json!([]), ConversionError::NotAnObject),
        (
            json!({"apiVersion": "v1"}),
            ConversionError::UnknownVersion("v1".into()),
        ),
        (
            json!({"apiVersion": "node.k8s.io/v1alpha1", "spec": 1}),
            ConversionError::SpecNotAnObject,
        ),
        (
            json!({"apiVersion": "node.k8s.io/v1alpha1", "handler": "a", "spec": {"runtimeHandler": "b"}}),
            ConversionError::Collision("handler"),
        ),
    ] {
        assert_eq!(convert(object, Version::V1).unwrap_err(), want);
    }
}

prop_compose! {
    fn classes()(
        handler in proptest::option::of("[a-z0-9]{1,8}"),
        overhead in proptest::option::of(proptest::collection::btree_map("cpu|memory", "[0-9]{1,4}(m|Mi)?", 0..3)),
        selector in proptest::option::of(proptest::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3)),
        tolerations in proptest::option::of(proptest::collection::vec("[a-z]{1,3}", 0..3)),
        extra in proptest::option::of("[a-z]{1,5}"),
    ) -> Value {
        let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "x"}});
        if let Some(h) = handler { class["handler"] = json!(h); }
        if let Some(o) = overhead { class["overhead"] = json!({"podFixed": o}); }
        if selector.is_some() || tolerations.is_some() {
            let mut s = json!({});
            if let Some(n) = selector { s["nodeSelector"] = json!(n); }
            if let Some(t) = tolerations {
                s["tolerations"] = t.into_iter().map(|k| json!({"key": k})).collect();
            }
            class["scheduling"] = s;
        }
        if let Some(e) = extra { class["frob"] = json!(e); }
        class
    }
}

proptest! {
    #[test]
    fn round_trips_lose_nothing(class in classes(), path in proptest::collection::vec(0usize..3, 0..6)) {
        let mut there = class.clone();
        for step in path {
            there = convert(there, Version::ALL[step]).unwrap();
        }
        prop_assert_eq!(convert(there, Version::V1).unwrap(), class);
    }

    #[test]
    fn alpha_round_trips_lose_nothing(class in classes()) {
        let alpha = convert(class, Version::V1Alpha1).unwrap();
        let back = convert(convert(alpha.clone(), Version::V1Beta1).unwrap(), Version::V1Alpha1).unwrap();
        prop_assert_eq!(back, alpha);
    }
}
