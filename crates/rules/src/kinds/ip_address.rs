//! networking.k8s.io/v1 IPAddress.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::networking::v1::IPAddress;

use crate::Rules;
use crate::values::{parse_ip, text};
use berth_core::meta::{self, Scope};

impl Rules for IPAddress {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, |_| Vec::new());
        let name = text(&self.metadata.name);
        if parse_ip(name).is_none_or(|ip| ip.to_string() != name) {
            let why =
                "must be a valid IP address in canonical form, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata.name"),
                name,
                why,
            ));
        }
        errors.extend(parent_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("spec.parentRef");
        meta::immutable(
            &mut errors,
            &at,
            &self.spec.parent_ref,
            &old.spec.parent_ref,
        );
        errors
    }
}

fn parent_errors(address: &IPAddress) -> Vec<FieldError> {
    let at = FieldPath::new("spec.parentRef");
    let parent = &address.spec.parent_ref;
    if *parent == Default::default() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors = Vec::new();
    let group = text(&parent.group);
    if !group.is_empty() {
        let at = at.child("group");
        meta::extend_invalid(&mut errors, &at, group, names::dns1123_subdomain(group));
    }
    for (name, value) in [
        ("resource", parent.resource.as_str()),
        ("name", &parent.name),
    ] {
        let at = at.child(name);
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            meta::extend_invalid(&mut errors, &at, value, names::path_segment(value));
        }
    }
    let namespace = text(&parent.namespace);
    if !namespace.is_empty() {
        let at = at.child("namespace");
        meta::extend_invalid(&mut errors, &at, namespace, names::path_segment(namespace));
    }
    errors
}
