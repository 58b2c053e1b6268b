use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn tolerations(value: Value) -> Vec<Toleration> {
    serde_json::from_value(value).unwrap()
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect()
}

#[test]
fn validation() {
    for (list, want) in [
        (json!([]), vec![]),
        (json!([{"key": "k", "value": "v"}]), vec![]),
        (json!([{"operator": "Exists"}]), vec![]),
        (
            json!([{"operator": "Equal", "value": "v"}]),
            vec!["FieldValueInvalid t[0].operator"],
        ),
        (
            json!([{"key": "k", "operator": "Exists", "effect": "Never"}]),
            vec!["FieldValueNotSupported t[0].effect"],
        ),
        (
            json!([{"key": "bad key!", "operator": "Exists"}]),
            vec!["FieldValueInvalid t[0].key"],
        ),
        (
            json!([{"key": "k", "value": "bad value!"}]),
            vec!["FieldValueInvalid t[0].operator"],
        ),
        (
            json!([{"key": "k", "operator": "Exists", "value": "v"}]),
            vec!["FieldValueInvalid t[0].operator"],
        ),
        (
            json!([{"key": "k", "operator": "In"}]),
            vec!["FieldValueNotSupported t[0].operator"],
        ),
        (
            // Numeric comparison is behind a gate that the stock server has off.
            json!([{"key": "k", "operator": "Lt", "value": "5"}, {"key": "k", "operator": "Gt", "value": "5"}]),
            vec![
                "FieldValueNotSupported t[0].operator",
                "FieldValueNotSupported t[1].operator",
            ],
        ),
        (
            json!([{"key": "k", "tolerationSeconds": 1}]),
            vec!["FieldValueInvalid t[0].effect"],
        ),
        (
            json!([{"key": "k", "effect": "NoExecute", "tolerationSeconds": 1}]),
            vec![],
        ),
    ] {
        assert_eq!(
            causes(&validate(&tolerations(list.clone()), &FieldPath::new("t"))),
            want,
            "{list}"
        );
    }
    let twice = tolerations(json!([{"key": "k", "effect": "NoExecute"}, {"key": "k"},
        {"key": "k", "effect": "NoExecute", "tolerationSeconds": 1}]));
    assert_eq!(
        causes(&validate_unique(&twice, &FieldPath::new("t"))),
        ["FieldValueDuplicate t[2]"]
    );
}

#[test]
fn merging_keeps_the_wider() {
    let exists = json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"});
    let equal = json!({"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
    let other = json!({"key": "b", "operator": "Exists"});
    let all = json!({"operator": "Exists"});
    let bounded =
        json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    let longer =
        json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
    let unset = json!({"key": "a", "value": "v"});
    let spelled = json!({"key": "a", "operator": "Equal", "value": "v"});
    for (first, second, want) in [
        (json!([]), json!([exists]), json!([exists])),
        (json!([exists]), json!([exists]), json!([exists])),
        (json!([exists]), json!([equal]), json!([exists])),
        (json!([equal]), json!([exists]), json!([exists])),
        (json!([other]), json!([exists]), json!([other, exists])),
        (json!([exists, other]), json!([all]), json!([all])),
        (json!([bounded]), json!([longer]), json!([longer])),
        (json!([unset]), json!([spelled]), json!([unset])),
        (json!([spelled]), json!([unset]), json!([unset])),
    ] {
        let got = merge(&tolerations(first.clone()), &tolerations(second.clone()));
        assert_eq!(got, tolerations(want), "{first} + {second}");
    }
}

fn some_toleration() -> impl Strategy<Value = Toleration> {
    (
        proptest::option::of("[ab]?"),
        proptest::option::of("Equal|Exists|"),
        proptest::option::of("[vw]?"),
        proptest::option::of("NoSchedule|NoExecute|PreferNoSchedule|"),
        proptest::option::of(0i64..3),
    )
        .prop_map(|(key, operator, value, effect, seconds)| Toleration {
            toleration_seconds: seconds.filter(|_| effect.as_deref() == Some("NoExecute")),
            value: value.filter(|_| operator.as_deref() != Some("Exists")),
            key,
            operator,
            effect,
        })
        .prop_filter("valid", |t| {
            validate(std::slice::from_ref(t), &FieldPath::new("t")).is_empty()
        })
}

fn some_taint() -> impl Strategy<Value = Taint> {
    (
        "[abc]",
        proptest::option::of("[vwx]"),
        "NoSchedule|NoExecute|PreferNoSchedule",
    )
        .prop_map(|(key, value, effect)| Taint {
            key,
            value,
            effect,
            ..Default::default()
        })
}

fn lists() -> impl Strategy<Value = Vec<Toleration>> {
    proptest::collection::vec(some_toleration(), 0..6)
}

proptest! {
    #[test]
    fn the_merge_tolerates_what_either_does(a in lists(), b in lists(), taint in some_taint()) {
        let either = a.iter().chain(&b).any(|t| tolerates(t, &taint));
        prop_assert_eq!(merge(&a, &b).iter().any(|t| tolerates(t, &taint)), either);
    }

    #[test]
    fn the_merge_holds_only_given_ones_and_none_covered_by_another(a in lists(), b in lists()) {
        let merged = merge(&a, &b);
        for (i, t) in merged.iter().enumerate() {
            prop_assert!(a.contains(t) || b.contains(t));
            for (j, other) in merged.iter().enumerate() {
                prop_assert!(i == j || !is_superset(other, t), "{:?} covers {:?}", other, t);
            }
        }
        for t in a.iter().chain(&b) {
            prop_assert!(merged.iter().any(|m| is_superset(m, t)), "{:?} lost", t);
        }
    }

    #[test]
    fn the_merge_is_what_comparing_each_with_each_gives(a in lists(), b in lists()) {
        let all: Vec<&Toleration> = a.iter().chain(&b).collect();
        let mut want: Vec<Toleration> = Vec::new();
        for (i, t) in all.iter().enumerate() {
            let before = want.iter().any(|kept| is_superset(kept, t));
            let after = all.iter().skip(i + 1).any(|later| !same(later, t) && is_superset(later, t));
            if !before && !after {
                want.push((*t).clone());
            }
        }
        prop_assert_eq!(merge(&a, &b), want);
    }

    #[test]
    fn merging_again_changes_nothing(a in lists(), b in lists()) {
        let merged = merge(&a, &b);
        prop_assert_eq!(merge(&merged, &b), merged.clone());
        prop_assert_eq!(merge(&merged, &[]), merged);
    }

    #[test]
    fn a_superset_tolerates_every_taint_of_the_other(a in some_toleration(), b in some_toleration(), taint in some_taint()) {
        if is_superset(&a, &b) && tolerates(&b, &taint) {
            prop_assert!(tolerates(&a, &taint));
        }
    }
}
