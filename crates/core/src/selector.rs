//! Label selectors as objects hold them, evaluated.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether labels match; an empty selector matches everything.
#[must_use]
pub fn label_selector_matches(
    selector: &LabelSelector,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    let get = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| get(key) == Some(value.as_str()));
    let expressions = selector.match_expressions.iter().flatten().all(|e| {
        let values = e.values.as_deref().unwrap_or_default();
        matches(&e.operator, values, get(&e.key))
    });
    equal && expressions
}

/// One requirement of a label selector; an unknown operator matches nothing.
fn matches(operator: &str, values: &[String], actual: Option<&str>) -> bool {
    let among = |v: &str| values.iter().any(|w| w == v);
    match operator {
        "In" => actual.is_some_and(among),
        "NotIn" => !actual.is_some_and(among),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        _ => false,
    }
}
