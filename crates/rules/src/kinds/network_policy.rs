//! networking.k8s.io/v1 NetworkPolicy.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Rules;
use crate::values::{cidr, contains, default_text, is_full, one_of_if_set, parse_cidr};
use berth_core::meta::{self, Scope};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

impl Rules for NetworkPolicy {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        let ingress = spec
            .ingress
            .iter_mut()
            .flatten()
            .map(|rule| &mut rule.ports);
        let egress = spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports);
        for port in ingress.chain(egress).flatten().flatten() {
            default_text(&mut port.protocol, "TCP");
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(self.spec.as_ref().map(spec_errors).unwrap_or_default());
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.spec.as_ref().map(spec_errors).unwrap_or_default());
        bounded(errors)
    }
}

fn spec_errors(spec: &NetworkPolicySpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    if let Some(selector) = &spec.pod_selector {
        errors.extend(meta::validate_label_selector(
            selector,
            &at.child("podSelector"),
        ));
    }
    for (i, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = at.child("ingress").index(i);
        rule_errors(
            &mut errors,
            rule.ports.as_deref(),
            rule.from.as_deref(),
            "from",
            &at,
        );
    }
    for (i, rule) in spec.egress.iter().flatten().enumerate() {
        let at = at.child("egress").index(i);
        rule_errors(
            &mut errors,
            rule.ports.as_deref(),
            rule.to.as_deref(),
            "to",
            &at,
        );
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let at = at.child("policyTypes");
    if types.len() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&at, types, why));
        return errors;
    }
    for (i, kind) in types.iter().enumerate() {
        one_of_if_set(
            &mut errors,
            &at.index(i),
            Some(kind),
            &["Egress", "Ingress"],
        );
    }
    errors
}

fn rule_errors(
    errors: &mut Vec<FieldError>,
    ports: Option<&[NetworkPolicyPort]>,
    peers: Option<&[NetworkPolicyPeer]>,
    peers_name: &str,
    at: &FieldPath,
) {
    for (i, port) in ports.unwrap_or_default().iter().enumerate() {
        port_errors(errors, port, &at.child("ports").index(i));
    }
    for (i, peer) in peers.unwrap_or_default().iter().enumerate() {
        peer_errors(errors, peer, &at.child(peers_name).index(i));
    }
}

fn port_errors(errors: &mut Vec<FieldError>, port: &NetworkPolicyPort, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let protocol = port.protocol.as_deref();
    one_of_if_set(errors, &at.child("protocol"), protocol, &PROTOCOLS);
    let (port_at, end_at) = (at.child("port"), at.child("endPort"));
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(first)), end) => {
            let wrong = names::port_number(i64::from(*first)).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&port_at, first, why)));
            if let Some(end) = end {
                if end < *first {
                    let why = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(&end_at, end, why));
                }
                let wrong = names::port_number(i64::from(end)).into_iter();
                errors.extend(wrong.map(|why| FieldError::invalid(&end_at, end, why)));
            }
        }
        (Some(IntOrString::String(name)), end) => {
            meta::extend_invalid(errors, &port_at, name, names::port_name(name));
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&end_at, end, why));
            }
        }
        (None, Some(end)) => {
            let why = "may not be specified when `port` is not specified";
            errors.push(FieldError::invalid(&end_at, end, why));
        }
        (None, None) => {}
    }
}

fn peer_errors(errors: &mut Vec<FieldError>, peer: &NetworkPolicyPeer, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let selectors = [
        ("podSelector", &peer.pod_selector),
        ("namespaceSelector", &peer.namespace_selector),
    ];
    for (name, selector) in selectors {
        if let Some(selector) = selector {
            errors.extend(meta::validate_label_selector(selector, &at.child(name)));
        }
    }
    let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match &peer.ip_block {
        Some(block) => {
            block_errors(errors, block, &at.child("ipBlock"));
            if selects {
                let why = "may not specify both ipBlock and another peer";
                errors.push(FieldError::forbidden(at, why));
            }
        }
        None if !selects => errors.push(FieldError::required(at, "must specify a peer")),
        None => {}
    }
}

fn block_errors(errors: &mut Vec<FieldError>, block: &IPBlock, at: &FieldPath) {
    let cidr_at = at.child("cidr");
    if block.cidr.is_empty() {
        errors.push(FieldError::required(&cidr_at, ""));
        return;
    }
    let Some(network) = parse_cidr(&block.cidr) else {
        cidr(errors, &cidr_at, &block.cidr);
        return;
    };
    for (i, except) in block.except.iter().flatten().enumerate() {
        let at = at.child("except").index(i);
        match parse_cidr(except) {
            None => cidr(errors, &at, except),
            Some((address, bits)) if bits <= network.1 || !contains(network, address) => {
                let why = "must be a strict subset of `cidr`";
                errors.push(FieldError::invalid(&at, except, why));
            }
            Some(_) => {}
        }
    }
}
