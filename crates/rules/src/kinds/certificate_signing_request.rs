//! certificates.k8s.io/v1 CertificateSigningRequest. Who may approve and sign is admission's.

mod conditions;
pub mod request;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestStatus,
};
use std::collections::HashSet;

use crate::values::is_full;
use crate::{Rules, UnknownSubresource};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

/// The subresource that approves or denies a request.
pub const APPROVAL: &str = "approval";
/// The signer of clients of the API server.
pub const KUBE_APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Ten minutes.
const MIN_SECONDS: i32 = 600;

impl Rules for CertificateSigningRequest {
    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    /// Who signs sets the certificate and the condition `Failed`; approvals stay as they are.
    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        conditions::keep_approvals(self, old);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::path_segment);
        errors.extend(spec_errors(self));
        errors.extend(conditions::validate(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(conditions::validate(self));
        let certificate = |csr: &Self| csr.status.as_ref().and_then(|s| s.certificate.clone());
        let at = FieldPath::new("status.certificate");
        match (certificate(self), certificate(old)) {
            (new, Some(old)) if new.as_ref() != Some(&old) && !old.0.is_empty() => {
                let why = "updates may not change or remove certificate content";
                errors.push(FieldError::forbidden(&at, why));
            }
            (Some(new), _) if !new.0.is_empty() => {
                errors.extend(request::check_certificate(&new.0, &at))
            }
            (_, _) => {}
        }
        bounded(errors)
    }

    fn prepare_subresource(
        &mut self,
        subresource: &str,
        old: &Self,
    ) -> Result<(), UnknownSubresource> {
        if subresource != APPROVAL {
            return Err(UnknownSubresource(subresource.to_owned()));
        }
        self.spec.clone_from(&old.spec);
        let conditions = self.status.take().and_then(|s| s.conditions);
        self.status.clone_from(&old.status);
        self.status.get_or_insert_default().conditions = conditions;
        Ok(())
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        old: &Self,
    ) -> Result<Vec<FieldError>, UnknownSubresource> {
        if subresource != APPROVAL {
            return Err(UnknownSubresource(subresource.to_owned()));
        }
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(conditions::validate(self));
        errors.extend(conditions::validate_approval(self, old));
        Ok(bounded(errors))
    }
}

fn spec_errors(csr: &CertificateSigningRequest) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = &csr.spec;
    if let Err(why) = request::parse(&spec.request.0) {
        errors.push(FieldError::invalid(
            &at.child("request"),
            &spec.request,
            why.to_string(),
        ));
    }
    let usages = spec.usages.as_deref().unwrap_or_default();
    let usages_at = at.child("usages");
    if usages.is_empty() {
        let why = "usages must be provided";
        errors.push(FieldError::required(&usages_at, why));
    }
    let mut seen = HashSet::new();
    for (i, usage) in usages.iter().enumerate() {
        if is_full(&errors) {
            break;
        }
        let at = usages_at.index(i);
        if !USAGES.contains(&usage.as_str()) {
            errors.push(FieldError::not_supported(&at, usage, &USAGES));
        }
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&at, usage));
        }
    }
    let signer_at = at.child("signerName");
    if spec.signer_name == LEGACY_UNKNOWN {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&signer_at, &spec.signer_name, why));
    } else {
        errors.extend(signer_name(&spec.signer_name, &signer_at));
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|s| *s < MIN_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(
            &at.child("expirationSeconds"),
            seconds,
            why,
        ));
    }
    errors
}

/// `example.com/name`: a domain of at least two parts, and a path.
fn signer_name(signer: &str, at: &FieldPath) -> Vec<FieldError> {
    if signer.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    let Some((domain, path)) = signer
        .split_once('/')
        .filter(|(_, path)| !path.contains('/'))
    else {
        return vec![FieldError::invalid(at, signer, form)];
    };
    let mut errors = Vec::new();
    for part in domain.split('.') {
        meta::extend_invalid(&mut errors, at, domain, names::dns1123_label(part));
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(at, domain, why));
    }
    meta::extend_invalid(&mut errors, at, path, names::dns1123_subdomain(path));
    errors
}

#[cfg(test)]
mod tests;
