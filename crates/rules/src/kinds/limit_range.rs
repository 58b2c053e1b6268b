//! core/v1 LimitRange.

use std::collections::{BTreeSet, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};

use crate::Rules;
use berth_core::meta::{self, Scope};
use berth_core::resource_list::{self, WireList};

impl Rules for LimitRange {
    /// Of containers: a maximum is the default limit, a default limit the default request, and a minimum too.
    fn default(&mut self) {
        for item in self.spec.iter_mut().flat_map(|s| s.limits.iter_mut()) {
            if item.type_ == "Container" {
                fill(item);
            }
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let at = FieldPath::new("spec.limits");
        let limits = self
            .spec
            .as_ref()
            .map(|s| s.limits.as_slice())
            .unwrap_or_default();
        let mut types = HashSet::new();
        for (i, item) in limits.iter().enumerate() {
            let at = at.index(i);
            errors.extend(type_name(&item.type_, &at.child("type")));
            if !types.insert(item.type_.as_str()) {
                errors.push(FieldError::duplicate(&at.child("type"), &item.type_));
            }
            errors.extend(validate_item(item, &at));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        errors
    }
}

fn fill(item: &mut LimitRangeItem) {
    let default = item.default.get_or_insert_default();
    for (name, amount) in item.max.iter().flatten() {
        default
            .entry(name.clone())
            .or_insert_with(|| amount.clone());
    }
    let request = item.default_request.get_or_insert_default();
    for (name, amount) in item
        .default
        .iter()
        .flatten()
        .chain(item.min.iter().flatten())
    {
        request
            .entry(name.clone())
            .or_insert_with(|| amount.clone());
    }
    for list in [&mut item.default, &mut item.default_request] {
        *list = list.take().filter(|l| !l.is_empty());
    }
}

fn type_name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    meta::extend_invalid(&mut errors, at, name, names::qualified_name(name));
    let standard = matches!(name, "Pod" | "Container" | "PersistentVolumeClaim");
    if errors.is_empty() && !name.contains('/') && !standard {
        errors.push(FieldError::invalid(
            at,
            name,
            "must be a standard limit type or fully qualified",
        ));
    }
    errors
}

fn validate_item(item: &LimitRangeItem, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name_rule = match item.type_.as_str() {
        "Pod" | "Container" => resource_list::validate_container_name,
        _ => resource_list::validate_name,
    };
    let mut read = |list: Option<&WireList>, field: &str| {
        let at = at.child(field);
        let empty = WireList::new();
        let list = list.unwrap_or(&empty);
        for name in list.keys() {
            errors.extend(name_rule(name, &at.key(name)));
        }
        resource_list::parse(list, &at, &mut errors)
    };
    let max = read(item.max.as_ref(), "max");
    let min = read(item.min.as_ref(), "min");
    let of_pod = item.type_ == "Pod";
    let unless_pod = |list: &'_ Option<WireList>| list.clone().filter(|_| !of_pod);
    let default = read(unless_pod(&item.default).as_ref(), "default");
    let request = read(unless_pod(&item.default_request).as_ref(), "defaultRequest");
    let ratio = read(
        item.max_limit_request_ratio.as_ref(),
        "maxLimitRequestRatio",
    );
    if of_pod {
        for (field, list) in [
            ("default", &item.default),
            ("defaultRequest", &item.default_request),
        ] {
            if list.as_ref().is_some_and(|l| !l.is_empty()) {
                errors.push(FieldError::forbidden(
                    &at.child(field),
                    "may not be specified when `type` is 'Pod'",
                ));
            }
        }
    }
    if item.type_ == "PersistentVolumeClaim"
        && !min.contains_key("storage")
        && !max.contains_key("storage")
    {
        errors.push(FieldError::required(
            &at.child("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        ));
    }
    let names: BTreeSet<&String> = [&max, &min, &default, &request, &ratio]
        .into_iter()
        .flat_map(|l| l.keys())
        .collect();
    for name in names {
        let mut above =
            |low: Option<&Quantity>, high: Option<&Quantity>, field: &str, what: &str| {
                if let (Some(low), Some(high)) = (low, high)
                    && low > high
                {
                    let shown = if field == "defaultRequest" || field == "min" {
                        low
                    } else {
                        high
                    };
                    errors.push(FieldError::invalid(
                        &at.child(field).key(name),
                        shown,
                        format!("{what}: {low} > {high}"),
                    ));
                }
            };
        let (max, min) = (max.get(name), min.get(name));
        let (default, request, ratio) = (default.get(name), request.get(name), ratio.get(name));
        above(min, max, "min", "min value is greater than max value");
        above(
            min,
            request,
            "defaultRequest",
            "min value is greater than default request value",
        );
        above(
            request,
            max,
            "defaultRequest",
            "default request value is greater than max value",
        );
        above(
            request,
            default,
            "defaultRequest",
            "default request value is greater than default limit value",
        );
        above(
            min,
            default,
            "default",
            "min value is greater than default value",
        );
        above(
            default,
            max,
            "default",
            "default value is greater than max value",
        );
        if let Some(ratio) = ratio {
            let at = at.child("maxLimitRequestRatio").key(name);
            if *ratio < Quantity::from_milli(1000) {
                errors.push(FieldError::invalid(
                    &at,
                    ratio,
                    format!("ratio {ratio} is less than 1"),
                ));
            }
            // ratio > max / min, without dividing.
            if let (Some(min), Some(max)) = (min, max)
                && min.mul(ratio.milli_value()) > max.mul(1000)
            {
                errors.push(FieldError::invalid(
                    &at,
                    ratio,
                    format!("ratio {ratio} is greater than max/min"),
                ));
            }
        }
        let overcommit = resource_list::is_native(name) && !resource_list::is_huge_page(name);
        if let (false, Some(default), Some(request)) = (overcommit, default, request)
            && default != request
        {
            errors.push(FieldError::invalid(
                &at.child("defaultRequest").key(name),
                request,
                format!(
                    "default value {default} must equal to defaultRequest value {request} in {name}"
                ),
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(items: Value) -> LimitRange {
        let mut range: LimitRange = serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"limits": items}}),
        )
        .unwrap();
        range.default();
        range
    }

    #[test]
    fn ranges() {
        for (items, want) in [
            (
                json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}]),
                vec![],
            ),
            (
                json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]),
                vec![
                    "FieldValueInvalid spec.limits[0].min[cpu]",
                    "FieldValueInvalid spec.limits[0].defaultRequest[cpu]",
                    "FieldValueInvalid spec.limits[0].default[cpu]",
                ],
            ),
            (
                json!([{"type": "Pod", "default": {"cpu": "1"}}]),
                vec!["FieldValueForbidden spec.limits[0].default"],
            ),
            (
                json!([{"type": "Odd"}]),
                vec!["FieldValueInvalid spec.limits[0].type"],
            ),
            (
                json!([{"type": "Pod"}, {"type": "Pod"}]),
                vec!["FieldValueDuplicate spec.limits[1].type"],
            ),
            (
                json!([{"type": "Pod", "max": {"frob": "1"}}]),
                vec![
                    "FieldValueInvalid spec.limits[0].max[frob]",
                    "FieldValueInvalid spec.limits[0].max[frob]",
                ],
            ),
            (
                json!([{"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "3"}}]),
                vec!["FieldValueInvalid spec.limits[0].maxLimitRequestRatio[cpu]"],
            ),
            (
                json!([{"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}]),
                vec!["FieldValueInvalid spec.limits[0].maxLimitRequestRatio[cpu]"],
            ),
            (
                json!([{"type": "PersistentVolumeClaim"}]),
                vec!["FieldValueRequired spec.limits[0].limits"],
            ),
        ] {
            let got: Vec<_> = range(items.clone())
                .validate()
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{items}");
        }
    }

    #[test]
    fn defaults_of_containers() {
        let range =
            range(json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]));
        let item = serde_json::to_value(&range.spec.unwrap().limits[0]).unwrap();
        assert_eq!(item["default"], json!({"cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    }
}
