//! networking.k8s.io/v1 ServiceCIDR.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::networking::v1::ServiceCIDR;

use crate::Rules;
use crate::rules::spec_and_status;
use crate::values::{cidr, parse_cidr};
use berth_core::meta::{self, Scope};

impl Rules for ServiceCIDR {
    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let at = FieldPath::new("spec.cidrs");
        let cidrs = cidrs(self);
        if cidrs.is_empty() {
            errors.push(FieldError::required(&at, "at least one CIDR required"));
        }
        if cidrs.len() > 2 {
            let why = "may only hold up to 2 values";
            errors.push(FieldError::invalid(&at, cidrs, why));
            return errors;
        }
        for (i, network) in cidrs.iter().enumerate() {
            cidr(&mut errors, &at.index(i), network);
        }
        if let [first, second] = cidrs
            && let (Some(first), Some(second)) = (parse_cidr(first), parse_cidr(second))
            && first.0.is_ipv4() == second.0.is_ipv4()
        {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
            errors.push(FieldError::invalid(&at, cidrs, why));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("spec.cidrs");
        let (new, before) = (cidrs(self), cidrs(old));
        match (before, new) {
            // One family may become two.
            ([one], [first, _]) if one == first => errors.extend(self.validate()),
            _ => meta::immutable(&mut errors, &at, &new, &before),
        }
        errors
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

fn cidrs(object: &ServiceCIDR) -> &[String] {
    let spec = object.spec.as_ref();
    spec.and_then(|s| s.cidrs.as_deref()).unwrap_or_default()
}
