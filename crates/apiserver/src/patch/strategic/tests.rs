use super::*;
use crate::patch::schema;
use proptest::prelude::*;
use serde_json::json;

fn pod(spec: Value, patch: Value) -> Result<Value, PatchError> {
    let ty = schema::lookup("core.v1.Pod");
    assert!(ty.is_some());
    apply(ty, &json!({"spec": spec}), &json!({"spec": patch})).map(|v| v["spec"].clone())
}

#[test]
fn lists_merge_by_key_and_new_items_come_first() {
    let spec = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1", "args": ["x", "y"]}]});
    let got = pod(
        spec,
        json!({"containers": [{"name": "c", "image": "2"}, {"name": "b", "image": "3", "args": ["z"]}]}),
    );
    assert_eq!(
        got,
        Ok(json!({"containers": [
            {"name": "c", "image": "2"}, {"name": "a", "image": "1"}, {"name": "b", "image": "3", "args": ["z"]}]}))
    );
}

#[test]
fn lists_without_strategy_are_replaced() {
    let got = pod(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
    assert_eq!(got, Ok(json!({"tolerations": [{"key": "b"}]})));
}

#[test]
fn directives_delete_and_replace_items() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(
        pod(
            spec.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]})
        ),
        Ok(json!({"containers": [{"name": "b"}]}))
    );
    assert_eq!(
        pod(
            spec,
            json!({"containers": [{"name": "z"}, {"$patch": "replace"}]})
        ),
        Ok(json!({"containers": [{"name": "z"}]}))
    );
}

#[test]
fn directives_delete_and_replace_maps() {
    let spec =
        json!({"securityContext": {"runAsUser": 1}, "nodeSelector": {"a": "1"}, "hostname": "h"});
    let patch = json!({"securityContext": {"$patch": "replace", "runAsGroup": 2}, "nodeSelector": {"$patch": "delete"}, "hostname": null});
    assert_eq!(
        pod(spec, patch),
        Ok(json!({"securityContext": {"runAsGroup": 2}, "nodeSelector": {}}))
    );
}

#[test]
fn retain_keys_clears_what_it_does_not_name() {
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]});
    assert_eq!(
        pod(spec.clone(), patch),
        Ok(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}))
    );
    let patch =
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name"]}]});
    assert_eq!(pod(spec, patch).map_err(|e| e.code()), Err(400));
}

#[test]
fn set_element_order_arranges_and_keeps_the_servers_items() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "i"}]});
    let got = pod(spec.clone(), patch).map(|v| {
        v["containers"]
            .as_array()
            .map(|l| l.iter().map(|c| c["name"].clone()).collect::<Vec<_>>())
    });
    assert_eq!(
        got,
        Ok(Some(vec![
            json!("server"),
            json!("b"),
            json!("c"),
            json!("a")
        ]))
    );
    let patch =
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "zz"}]});
    assert_eq!(pod(spec, patch).map_err(|e| e.code()), Err(422));
}

#[test]
fn primitive_lists_merge_and_delete() {
    let ty = schema::lookup("core.v1.Pod");
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"]}});
    assert_eq!(
        apply(ty, &object, &patch),
        Ok(json!({"metadata": {"finalizers": ["b", "c"]}}))
    );
}

#[test]
fn an_item_without_its_key_is_refused() {
    let got = pod(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"image": "x"}]}),
    );
    assert_eq!(got.map_err(|e| e.code()), Err(422));
}

#[test]
fn nulls_and_directives_of_new_parts_are_dropped() {
    let got = pod(
        json!({}),
        json!({"securityContext": {"runAsUser": null, "runAsGroup": 1}, "nodeSelector": {"$patch": "delete"}}),
    );
    assert_eq!(got, Ok(json!({"securityContext": {"runAsGroup": 1}})));
}

#[test]
fn a_directive_is_no_item_of_a_new_list() {
    let ty = schema::lookup("core.v1.Pod");
    let patch = json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"$patch": "replace"}]}});
    let fresh = apply(ty, &json!({"status": {}}), &patch).expect("merges");
    assert_eq!(fresh["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    let patch = json!({"status": {"podIPs": [{"ip": "10.0.0.2"}, {"$patch": "replace"}]}});
    let next = apply(ty, &fresh, &patch).expect("merges");
    assert_eq!(next["status"]["podIPs"], json!([{"ip": "10.0.0.2"}]));
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-f]", 0..5)
        .prop_map(|s| s.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn containers(names: &[String], image: &str) -> Value {
    Value::Array(
        names
            .iter()
            .map(|n| json!({"name": n, "image": image}))
            .collect(),
    )
}

proptest! {
    #[test]
    fn merging_keeps_all_names_once_and_is_idempotent(old in names(), new in names()) {
        let patch = json!({"containers": containers(&new, "2")});
        let once = pod(json!({"containers": containers(&old, "1")}), patch.clone()).expect("merges");
        let list = once["containers"].as_array().expect("a list");
        let mut got: Vec<_> = list.iter().map(|c| c["name"].as_str().expect("a name").to_owned()).collect();
        for c in list {
            let is_new = new.iter().any(|n| c["name"] == n.as_str());
            prop_assert_eq!(c["image"].as_str(), Some(if is_new { "2" } else { "1" }));
        }
        got.sort();
        let mut want: Vec<_> = old.iter().chain(&new).cloned().collect();
        want.sort();
        want.dedup();
        prop_assert_eq!(got, want);
        prop_assert_eq!(pod(once.clone(), patch).expect("merges"), once);
    }

    #[test]
    fn order_follows_set_element_order(old in names(), order in names()) {
        let patch = json!({"$setElementOrder/containers": order.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
        let got = pod(json!({"containers": containers(&old, "1")}), patch).expect("merges");
        let place = |n: &str| got["containers"].as_array().and_then(|l| l.iter().position(|c| c["name"] == n));
        let places: Vec<_> = order.iter().filter_map(|n| place(n)).collect();
        prop_assert!(places.is_sorted());
    }
}
