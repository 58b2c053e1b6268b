//! networking.k8s.io/v1 Ingress.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
};

use crate::Rules;
use crate::rules::spec_and_status;
use crate::values::{ip, is_full, parse_ip, required, text};
use berth_core::meta::{self, Scope};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];

impl Rules for Ingress {
    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let annotations = self.metadata.annotations.as_ref();
        let class = annotations.and_then(|a| a.get(CLASS_ANNOTATION));
        let named = self
            .spec
            .as_ref()
            .is_some_and(|s| s.ingress_class_name.is_some());
        if let Some(class) = class.filter(|class| named && !class.is_empty()) {
            let at = FieldPath::new("annotations").child(CLASS_ANNOTATION);
            let why = "can not be set when the class field is also set";
            errors.push(FieldError::invalid(&at, class, why));
        }
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let status = self.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let points = status.into_iter().flat_map(|s| s.ingress.iter().flatten());
        for (i, point) in points.enumerate() {
            let at = FieldPath::new("status.loadBalancer.ingress").index(i);
            load_balancer_point(&mut errors, text(&point.ip), text(&point.hostname), &at);
        }
        bounded(errors)
    }
}

/// Where a load balancer is reached: an address or a name.
pub(super) fn load_balancer_point(
    errors: &mut Vec<FieldError>,
    address: &str,
    hostname: &str,
    at: &FieldPath,
) {
    if !address.is_empty() {
        ip(errors, &at.child("ip"), address);
    }
    if !hostname.is_empty() {
        let at = at.child("hostname");
        meta::extend_invalid(errors, &at, hostname, names::dns1123_subdomain(hostname));
        if parse_ip(hostname).is_some() {
            let why = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&at, hostname, why));
        }
    }
}

/// Names of hosts may begin with `*.`.
fn host(errors: &mut Vec<FieldError>, name: &str, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    match name.strip_prefix("*.") {
        Some(rest) => meta::extend_invalid(errors, at, name, names::dns1123_subdomain(rest)),
        None => meta::extend_invalid(errors, at, name, names::dns1123_subdomain(name)),
    }
}

fn spec_errors(ingress: &Ingress) -> Vec<FieldError> {
    let none = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&none);
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&at, &spec.rules, why));
    }
    if let Some(backend) = &spec.default_backend {
        backend_errors(&mut errors, backend, &at.child("defaultBackend"));
    }
    for (i, rule) in rules.iter().enumerate() {
        rule_errors(&mut errors, rule, &at.child("rules").index(i));
    }
    for (i, tls) in spec.tls.iter().flatten().enumerate() {
        let at = at.child("tls").index(i);
        for (j, name) in tls.hosts.iter().flatten().enumerate() {
            host(&mut errors, name, &at.child("hosts").index(j));
        }
        let secret = text(&tls.secret_name);
        if !secret.is_empty() {
            let at = at.child("secretName");
            meta::extend_invalid(&mut errors, &at, secret, names::dns1123_subdomain(secret));
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        let at = at.child("ingressClassName");
        meta::extend_invalid(&mut errors, &at, class, names::dns1123_subdomain(class));
    }
    errors
}

fn rule_errors(errors: &mut Vec<FieldError>, rule: &IngressRule, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let name = text(&rule.host);
    if !name.is_empty() {
        let at = at.child("host");
        if parse_ip(name).is_some() {
            let why = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&at, name, why));
        }
        host(errors, name, &at);
    }
    if let Some(http) = &rule.http {
        let at = at.child("http.paths");
        if http.paths.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        for (i, path) in http.paths.iter().enumerate() {
            path_errors(errors, path, &at.index(i));
        }
    }
}

fn path_errors(errors: &mut Vec<FieldError>, given: &HTTPIngressPath, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let (path, path_at) = (text(&given.path), at.child("path"));
    let absolute = "must be an absolute path";
    match given.path_type.as_str() {
        "" => {
            let why = "pathType must be specified";
            errors.push(FieldError::required(&at.child("pathType"), why));
        }
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                errors.push(FieldError::invalid(&path_at, path, absolute));
            }
            if !path.is_empty() {
                for wrong in ["//", "/./", "/../", "%2f", "%2F"] {
                    if path.contains(wrong) {
                        let why = format!("must not contain '{wrong}'");
                        errors.push(FieldError::invalid(&path_at, path, why));
                    }
                }
                for wrong in ["/..", "/."] {
                    if path.ends_with(wrong) {
                        let why = format!("cannot end with '{wrong}'");
                        errors.push(FieldError::invalid(&path_at, path, why));
                    }
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                errors.push(FieldError::invalid(&path_at, path, absolute));
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                &at.child("pathType"),
                other,
                &PATH_TYPES,
            ));
        }
    }
    backend_errors(errors, &given.backend, &at.child("backend"));
}

fn backend_errors(errors: &mut Vec<FieldError>, backend: &IngressBackend, at: &FieldPath) {
    match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => errors.push(FieldError::invalid(
            at,
            "",
            "cannot set both resource and service backends",
        )),
        (None, None) => errors.push(FieldError::required(
            at,
            "resource or service backend is required",
        )),
        (Some(service), None) => service_errors(errors, service, &at.child("service")),
        (None, Some(resource)) => {
            let at = at.child("resource");
            let group = text(&resource.api_group);
            if !group.is_empty() {
                let at = at.child("apiGroup");
                meta::extend_invalid(errors, &at, group, names::dns1123_subdomain(group));
            }
            required(errors, &at.child("kind"), &resource.kind);
            required(errors, &at.child("name"), &resource.name);
        }
    }
}

fn service_errors(errors: &mut Vec<FieldError>, service: &IngressServiceBackend, at: &FieldPath) {
    let name_at = at.child("name");
    if service.name.is_empty() {
        errors.push(FieldError::required(&name_at, ""));
    } else {
        meta::extend_invalid(
            errors,
            &name_at,
            &service.name,
            names::dns1035_label(&service.name),
        );
    }
    let at = at.child("port");
    let port = service.port.as_ref();
    let name = port.and_then(|p| p.name.as_deref()).unwrap_or_default();
    let number = port.and_then(|p| p.number).unwrap_or(0);
    match (name.is_empty(), number != 0) {
        (false, true) => errors.push(FieldError::invalid(
            &at,
            "",
            "cannot set both port name & port number",
        )),
        (true, false) => errors.push(FieldError::required(&at, "port name or number is required")),
        (false, false) => {
            meta::extend_invalid(errors, &at.child("name"), name, names::port_name(name));
        }
        (true, true) => {
            let wrong = names::port_number(i64::from(number)).into_iter();
            let at = at.child("number");
            errors.extend(wrong.map(|why| FieldError::invalid(&at, number, why)));
        }
    }
}
