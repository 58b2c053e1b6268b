//! The addresses of a service: cluster IPs, their families, and those that others have given it.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{EXTERNAL_NAME, HEADLESS};
use crate::kinds::endpoints::validate_special;
use crate::values::{ip, one_of_if_set, parse_ip, text};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["SingleStack", "PreferDualStack", "RequireDualStack"];

pub(super) fn validate(spec: &ServiceSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    external_ips(&mut errors, spec, &at.child("externalIPs"));
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let ips_at = at.child("clusterIPs");
    if text(&spec.type_) == EXTERNAL_NAME {
        let why = "may not be set for ExternalName services";
        for (name, is_set) in [
            ("clusterIPs", !ips.is_empty()),
            ("ipFamilies", !families.is_empty()),
            ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
        ] {
            if is_set {
                errors.push(FieldError::forbidden(&at.child(name), why));
            }
        }
        return errors;
    }
    let families_at = at.child("ipFamilies");
    let mut seen = HashSet::new();
    for (i, family) in families.iter().enumerate() {
        one_of_if_set(&mut errors, &families_at.index(i), Some(family), &FAMILIES);
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&families_at.index(i), family));
        }
    }
    let policy = spec.ip_family_policy.as_deref();
    one_of_if_set(&mut errors, &at.child("ipFamilyPolicy"), policy, &POLICIES);
    let one = text(&spec.cluster_ip);
    match ips.first() {
        Some(first) if first != one => {
            let why = "first value must match `clusterIP`";
            errors.push(FieldError::invalid(&ips_at, ips, why));
        }
        Some(_) | None => {}
    }
    if ips.len() > 2 {
        let why = "may only hold up to 2 values";
        errors.push(FieldError::invalid(&ips_at, ips, why));
        return errors;
    }
    cluster_ips(&mut errors, ips, families, &ips_at);
    errors
}

fn cluster_ips(errors: &mut Vec<FieldError>, ips: &[String], families: &[String], at: &FieldPath) {
    for (i, address) in ips.iter().enumerate() {
        let at = at.index(i);
        if address == HEADLESS {
            if ips.len() > 1 {
                let why = "'None' must be the first and only value";
                errors.push(FieldError::invalid(&at, address, why));
            }
            continue;
        }
        match (parse_ip(address), families.get(i)) {
            (None, _) => ip(errors, &at, address),
            (Some(parsed), Some(family)) if (family == "IPv4") != parsed.is_ipv4() => {
                let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(&at, address, why));
            }
            (Some(_), _) => {}
        }
    }
    if let [first, second] = ips
        && let (Some(first), Some(second)) = (parse_ip(first), parse_ip(second))
        && first.is_ipv4() == second.is_ipv4()
    {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(at, ips, why));
    }
}

/// What of the addresses and families never changes once it is there.
pub(super) fn update(new: &ServiceSpec, old: &ServiceSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(&new.type_) == EXTERNAL_NAME || text(&old.type_) == EXTERNAL_NAME {
        return errors;
    }
    let list = |of: &Option<Vec<String>>| of.clone().unwrap_or_default();
    let mut ips = list(&new.cluster_ips);
    // A client that knows only the first field says what it means by that.
    if ips.is_empty() && !text(&new.cluster_ip).is_empty() {
        ips.push(text(&new.cluster_ip).to_owned());
    }
    let families = list(&new.ip_families);
    for (name, what, new, old) in [
        ("clusterIPs", "clusterIP", ips, list(&old.cluster_ips)),
        ("ipFamilies", "ipFamily", families, list(&old.ip_families)),
    ] {
        let at = at.child(name);
        if let (None, Some(_)) = (new.first(), old.first()) {
            let why = format!("primary {what} can not be unset");
            errors.push(FieldError::invalid(&at, &new, why));
        }
        for (i, (now, before)) in new.iter().zip(&old).enumerate() {
            if now != before {
                let why = "may not change once set";
                errors.push(FieldError::invalid(&at.index(i), &new, why));
            }
        }
    }
    errors
}

fn external_ips(errors: &mut Vec<FieldError>, spec: &ServiceSpec, at: &FieldPath) {
    for (i, address) in spec.external_ips.iter().flatten().enumerate() {
        let at = at.index(i);
        match parse_ip(address) {
            None => ip(errors, &at, address),
            Some(parsed) => validate_special(errors, parsed, &at),
        }
    }
}
