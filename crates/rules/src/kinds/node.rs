//! core/v1 Node.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::Rules;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::resource_list::{self, WireList};
use berth_core::toleration::EFFECTS;

impl Rules for Node {
    fn default(&mut self) {
        // Go's encoder leaves an empty list out, so the stock server never shows one.
        if let Some(spec) = self.spec.as_mut() {
            spec.taints.take_if(|taints| taints.is_empty());
        }
        if let Some(status) = self.status.as_mut()
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(taints(self));
        errors.extend(amounts(self));
        errors.extend(swap(self));
        let at = FieldPath::new("spec.podCIDRs");
        for (i, cidr) in self
            .spec
            .iter()
            .flat_map(|s| s.pod_cidrs.iter().flatten())
            .enumerate()
        {
            if !is_cidr(cidr) {
                errors.push(FieldError::invalid(
                    &at.index(i),
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(amounts(self));
        let addresses = self
            .status
            .as_ref()
            .and_then(|s| s.addresses.as_deref())
            .unwrap_or_default();
        let mut before = HashSet::new();
        for (i, address) in addresses.iter().enumerate() {
            if !before.insert((address.type_.as_str(), address.address.as_str())) {
                errors.push(FieldError::duplicate(
                    &FieldPath::new("status.addresses").index(i),
                    address,
                ));
            }
        }
        let cidrs = |n: &Self| {
            n.spec
                .as_ref()
                .and_then(|s| s.pod_cidrs.clone())
                .unwrap_or_default()
        };
        let before = cidrs(old);
        if !before.is_empty() && before != cidrs(self) {
            errors.push(FieldError::forbidden(
                &FieldPath::new("spec.podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        let provider = |n: &Self| {
            n.spec
                .as_ref()
                .and_then(|s| s.provider_id.clone())
                .unwrap_or_default()
        };
        let before = provider(old);
        if !before.is_empty() && before != provider(self) {
            errors.push(FieldError::forbidden(
                &FieldPath::new("spec.providerID"),
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
        errors.extend(taints(self));
        errors
    }
}

fn taints(node: &Node) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // The reference reports taints below metadata.
    let at = FieldPath::new("metadata.taints");
    let taints: &[Taint] = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let mut before = HashSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let at = at.index(i);
        meta::extend_invalid(
            &mut errors,
            &at.child("key"),
            &taint.key,
            names::qualified_name(&taint.key),
        );
        let value = taint.value.as_deref().unwrap_or_default();
        let complaints = names::label_value(value);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(
                &at.child("value"),
                value,
                complaints.join("; "),
            ));
        }
        if taint.effect.is_empty() {
            errors.push(FieldError::required(&at.child("effect"), ""));
        } else if !EFFECTS.contains(&taint.effect.as_str()) {
            errors.push(FieldError::not_supported(
                &at.child("effect"),
                &taint.effect,
                &EFFECTS,
            ));
        }
        if !before.insert((taint.key.as_str(), taint.effect.as_str())) {
            errors.push(FieldError::duplicate(&at, taint));
        }
    }
    errors
}

fn amounts(node: &Node) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut check = |list: Option<&WireList>, name: &str| {
        for (resource, wire) in list.into_iter().flatten() {
            let at = FieldPath::new("status").child(name).child(resource);
            match Quantity::try_from(wire) {
                Ok(amount) => errors.extend(resource_list::validate_amount(resource, &amount, &at)),
                Err(error) => errors.push(FieldError::invalid(&at, &wire.0, error.to_string())),
            }
        }
    };
    if let Some(status) = &node.status {
        check(status.capacity.as_ref(), "capacity");
        check(status.allocatable.as_ref(), "allocatable");
    }
    errors
}

/// The reference reports swap below metadata, too, and only at creation.
fn swap(node: &Node) -> Option<FieldError> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    let capacity = info.swap.as_ref()?.capacity.filter(|bytes| *bytes <= 0)?;
    let at = FieldPath::new("metadata.nodeSwapStatus.capacity");
    Some(FieldError::invalid(
        &at,
        capacity,
        "must be greater than zero",
    ))
}

/// An address and the length of its network part.
fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(bits) = bits.parse::<u8>() else {
        return false;
    };
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => bits <= 32,
        Ok(std::net::IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(mut body: Value) -> Node {
        body["metadata"] = json!({"name": "n1", "resourceVersion": "1"});
        serde_json::from_value(body).unwrap()
    }

    fn causes(errors: Vec<FieldError>) -> Vec<String> {
        errors
            .iter()
            .map(|e| format!("{} {}", e.kind.reason(), e.field))
            .collect()
    }

    fn with_swap(swap: Value) -> Value {
        let mut info: Value = [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
        ]
        .into_iter()
        .chain(["kubeProxyVersion", "kubeletVersion", "machineID"])
        .chain(["operatingSystem", "osImage", "systemUUID"])
        .map(|name| (name.to_owned(), json!("")))
        .collect();
        info["swap"] = swap;
        json!({"status": {"nodeInfo": info}})
    }

    #[test]
    fn an_empty_list_of_taints_is_none() {
        let mut emptied = node(json!({"spec": {"taints": [], "podCIDR": "10.0.0.0/24"}}));
        emptied.default();
        let spec = emptied.spec.unwrap();
        assert_eq!(spec.taints, None);
        assert_eq!(spec.pod_cidr.as_deref(), Some("10.0.0.0/24"));
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let mut tainted = node(json!({"spec": {"taints": [taint]}}));
        tainted.default();
        assert_eq!(tainted.spec.unwrap().taints.map_or(0, |t| t.len()), 1);
    }

    #[test]
    fn nodes() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        for (body, want) in [
            (
                json!({"spec": {"taints": [taint], "podCIDRs": ["10.0.0.0/24"]}}),
                vec![],
            ),
            (
                json!({"spec": {"taints": [taint, taint]}}),
                vec!["FieldValueDuplicate metadata.taints[1]"],
            ),
            (
                json!({"spec": {"taints": [{"key": "a", "effect": ""}, {"key": "b", "effect": "X"}]}}),
                vec![
                    "FieldValueRequired metadata.taints[0].effect",
                    "FieldValueNotSupported metadata.taints[1].effect",
                ],
            ),
            (
                json!({"spec": {"podCIDRs": ["10.0.0.0"]}}),
                vec!["FieldValueInvalid spec.podCIDRs[0]"],
            ),
            (
                json!({"status": {"capacity": {"cpu": "-1", "pods": "500m"}}}),
                vec![
                    "FieldValueInvalid status.capacity.cpu",
                    "FieldValueInvalid status.capacity.pods",
                ],
            ),
            (with_swap(json!({"capacity": 4096})), vec![]),
            (with_swap(json!({})), vec![]),
            (
                with_swap(json!({"capacity": 0})),
                vec!["FieldValueInvalid metadata.nodeSwapStatus.capacity"],
            ),
        ] {
            assert_eq!(causes(node(body.clone()).validate()), want, "{body}");
        }
    }

    #[test]
    fn updates() {
        let old = node(json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "x"}}));
        assert_eq!(
            causes(node(json!({})).validate_update(&old)),
            [
                "FieldValueForbidden spec.podCIDRs",
                "FieldValueForbidden spec.providerID"
            ]
        );
        assert_eq!(
            causes(old.validate_update(&node(json!({})))),
            Vec::<String>::new()
        );
        let twice = json!({"type": "InternalIP", "address": "1.2.3.4"});
        assert_eq!(
            causes(
                node(json!({"status": {"addresses": [twice, twice]}}))
                    .validate_update(&node(json!({})))
            ),
            ["FieldValueDuplicate status.addresses[1]"]
        );
    }
}
