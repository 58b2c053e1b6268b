//! What a RuntimeClass says of its pods' network, by annotations of berth's own: a floor below which no NetworkPolicy gets.
//!
//! | annotation | value |
//! |---|---|
//! | [`DEFAULT_NETWORK_POLICY`] | `deny-all`, `deny-egress` or `allow` |
//! | [`EXCEPT`] | what the floor does not close: CIDRs, `dns` and `node`, separated by commas |
//!
//! What isn't understood is refused with the class. A class that has it all the same (a stock server stored it) closes its pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::values::parse_cidr;

/// The annotation that gives a class a floor.
pub const DEFAULT_NETWORK_POLICY: &str = "node.berth.dev/default-network-policy";
/// What the floor does not close.
pub const EXCEPT: &str = "node.berth.dev/default-network-policy-except";
/// Most exceptions of a class.
const MAX_EXCEPTIONS: usize = 64;

/// What a class denies its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFloor {
    /// How much of it.
    pub level: FloorLevel,
    /// Networks that the floor leaves open.
    pub except: Vec<(IpAddr, u8)>,
    /// It leaves the cluster's DNS server open.
    pub dns: bool,
    /// It leaves the node's own addresses open.
    pub node: bool,
}

/// How much a floor denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorLevel {
    /// The cloud's metadata and the node's own API.
    Allow,
    /// All that the pod begins.
    DenyEgress,
    /// All that the pod begins, and all that others begin with it.
    DenyAll,
}

/// An annotation is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {value:?} {why}")]
pub struct FloorError {
    /// Which.
    pub name: &'static str,
    /// What it has.
    pub value: String,
    /// What it must be.
    pub why: String,
}

/// The floor that annotations of a class give; nothing without them.
///
/// # Errors
/// When one of them is not understood, or the second one stands without the first.
pub fn parse(
    annotations: Option<&BTreeMap<String, String>>,
) -> Result<Option<NetworkFloor>, FloorError> {
    let get = |name: &str| annotations.and_then(|all| all.get(name));
    let wrong = |name: &'static str, value: &str, why: &str| FloorError {
        name,
        value: value.to_owned(),
        why: why.to_owned(),
    };
    let Some(level) = get(DEFAULT_NETWORK_POLICY) else {
        return match get(EXCEPT) {
            None => Ok(None),
            Some(value) => {
                let why = format!("has no meaning without {DEFAULT_NETWORK_POLICY}");
                Err(wrong(EXCEPT, value, &why))
            }
        };
    };
    let mut floor = NetworkFloor {
        level: match level.as_str() {
            "allow" => FloorLevel::Allow,
            "deny-egress" => FloorLevel::DenyEgress,
            "deny-all" => FloorLevel::DenyAll,
            other => {
                let why = "must be deny-egress, deny-all or allow";
                return Err(wrong(DEFAULT_NETWORK_POLICY, other, why));
            }
        },
        except: Vec::new(),
        dns: false,
        node: false,
    };
    let Some(list) = get(EXCEPT) else {
        return Ok(Some(floor));
    };
    for word in list.split(',').map(str::trim) {
        match (word, parse_cidr(word)) {
            ("dns", _) => floor.dns = true,
            ("node", _) => floor.node = true,
            (_, Some(block)) => floor.except.push(block),
            (_, None) => {
                let why = "must be a list of CIDRs (e.g. 192.0.2.0/24), dns and node, separated by commas";
                return Err(wrong(EXCEPT, list, why));
            }
        }
    }
    if floor.except.len() > MAX_EXCEPTIONS {
        let why = format!("has more than {MAX_EXCEPTIONS} networks");
        return Err(wrong(EXCEPT, list, &why));
    }
    Ok(Some(floor))
}

/// What is wrong with a class's annotations.
pub(crate) fn validate(class: &RuntimeClass) -> Vec<FieldError> {
    let Err(error) = parse(class.metadata.annotations.as_ref()) else {
        return Vec::new();
    };
    let at = FieldPath::new("metadata")
        .child("annotations")
        .key(error.name);
    vec![FieldError::invalid(&at, &error.value, &error.why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(pairs: &[(&str, &str)]) -> Result<Option<NetworkFloor>, FloorError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        parse(Some(&pairs.iter().map(own).collect()))
    }

    #[test]
    fn levels_and_exceptions() {
        assert_eq!(parse(None), Ok(None));
        assert_eq!(floor(&[("other", "x")]), Ok(None));
        for (text, level) in [
            ("allow", FloorLevel::Allow),
            ("deny-egress", FloorLevel::DenyEgress),
            ("deny-all", FloorLevel::DenyAll),
        ] {
            let found = floor(&[(DEFAULT_NETWORK_POLICY, text)]).unwrap().unwrap();
            assert_eq!(found.level, level);
            assert!(found.except.is_empty() && !found.dns && !found.node);
        }
        let list = "192.0.2.0/24, dns ,2001:db8::/64,node";
        let found = floor(&[(DEFAULT_NETWORK_POLICY, "deny-all"), (EXCEPT, list)]);
        let found = found.unwrap().unwrap();
        assert_eq!(found.except.len(), 2);
        assert!(found.dns && found.node);
    }

    #[test]
    fn what_is_not_understood_is_no_floor_that_is_open() {
        for (name, value) in [
            (DEFAULT_NETWORK_POLICY, ""),
            (DEFAULT_NETWORK_POLICY, "Deny-All"),
            (DEFAULT_NETWORK_POLICY, "deny"),
            (DEFAULT_NETWORK_POLICY, "allow "),
            (EXCEPT, "dns"),
        ] {
            let error = floor(&[(name, value)]).unwrap_err();
            assert_eq!(error.name, name);
        }
        let many = vec!["10.0.0.0/8"; MAX_EXCEPTIONS + 1].join(",");
        for list in ["", "all", "10.0.0.1", "10.0.0.0/33", "dns,", many.as_str()] {
            let error = floor(&[(DEFAULT_NETWORK_POLICY, "allow"), (EXCEPT, list)]);
            assert_eq!(error.unwrap_err().name, EXCEPT, "{list}");
        }
    }

    #[test]
    fn a_class_with_an_unknown_floor_is_refused() {
        let mut class = RuntimeClass {
            handler: "runsc".to_owned(),
            ..RuntimeClass::default()
        };
        class.metadata.name = Some("x".to_owned());
        let annotations = class.metadata.annotations.get_or_insert_default();
        annotations.insert(DEFAULT_NETWORK_POLICY.to_owned(), "none".to_owned());
        let errors = validate(&class);
        let said = format!("{:?}", errors);
        assert_eq!(errors.len(), 1);
        assert!(said.contains(DEFAULT_NETWORK_POLICY), "{said}");
    }
}
