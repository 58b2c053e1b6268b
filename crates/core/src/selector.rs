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

/// Whether it has no requirement, and so selects everything.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.as_ref();
    let expressions = selector.match_expressions.as_ref();
    labels.is_none_or(BTreeMap::is_empty) && expressions.is_none_or(Vec::is_empty)
}

/// A selector as text, as clients write it in queries: `app=web,tier in (a,b)`.
#[must_use]
pub fn text_of(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let mut parts: Vec<(&str, String)> = labels
        .map(|(key, value)| (key.as_str(), format!("{key}={value}")))
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let key = expression.key.as_str();
        let mut values: Vec<&str> = expression
            .values
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            // No such operator is stored; nothing is selected by it.
            other => format!("{key} {other} ({values})"),
        };
        parts.push((key, text));
    }
    parts.sort();
    parts
        .into_iter()
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(",")
}

/// Labels as the text of a selector of them.
#[must_use]
pub fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_as_text() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"z": "1", "a": "2"},
            "matchExpressions": [
                {"key": "m", "operator": "In", "values": ["y", "x"]},
                {"key": "n", "operator": "NotIn", "values": ["y"]},
                {"key": "o", "operator": "Exists"},
                {"key": "p", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        assert_eq!(text_of(&selector), "a=2,m in (x,y),n notin (y),o,!p,z=1");
        assert_eq!(
            labels_text(selector.match_labels.as_ref().unwrap()),
            "a=2,z=1"
        );
    }
}
