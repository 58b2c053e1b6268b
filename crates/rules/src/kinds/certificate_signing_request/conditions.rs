//! The conditions of a certificate signing request.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = csr.status.as_ref();
    status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default()
}

fn is_approval(condition: &CertificateSigningRequestCondition) -> bool {
    matches!(condition.type_.as_str(), APPROVED | DENIED)
}

/// Approvals and denials of the old object in place of those of the new one.
pub(super) fn keep_approvals(csr: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
    let mut kept: Vec<_> = conditions(old)
        .iter()
        .filter(|c| is_approval(c))
        .cloned()
        .collect();
    kept.extend(conditions(csr).iter().filter(|c| !is_approval(c)).cloned());
    let status = csr.status.get_or_insert_default();
    status.conditions = Some(kept).filter(|kept| !kept.is_empty());
}

/// What holds for conditions by themselves.
pub(super) fn validate(csr: &CertificateSigningRequest) -> Vec<FieldError> {
    let at = FieldPath::new("status.conditions");
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, condition) in conditions(csr).iter().enumerate() {
        let at = at.index(i);
        let kind = condition.type_.as_str();
        if kind.is_empty() {
            errors.push(FieldError::required(&at.child("type"), ""));
        }
        let status = condition.status.as_str();
        match kind {
            APPROVED | DENIED | FAILED if status != "True" => {
                errors.push(match status {
                    "" => FieldError::required(&at.child("status"), ""),
                    other => FieldError::not_supported(&at.child("status"), other, &["True"]),
                });
            }
            _ if status.is_empty() => errors.push(FieldError::required(&at.child("status"), "")),
            _ if !matches!(status, "True" | "False" | "Unknown") => {
                let statuses = ["True", "False", "Unknown"];
                errors.push(FieldError::not_supported(
                    &at.child("status"),
                    status,
                    &statuses,
                ));
            }
            _ => {}
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
        let other = match kind {
            APPROVED => DENIED,
            DENIED => APPROVED,
            _ => continue,
        };
        if seen.contains(other) {
            let why = format!("{APPROVED} and {DENIED} conditions are mutually exclusive");
            errors.push(FieldError::invalid(&at.child("type"), kind, why));
        }
    }
    errors
}

/// What is once approved or denied stays so.
pub(super) fn validate_approval(
    csr: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
) -> Vec<FieldError> {
    let at = FieldPath::new("status.conditions");
    let mut errors = Vec::new();
    for kind in [APPROVED, DENIED, FAILED] {
        let of = |csr: &CertificateSigningRequest| conditions(csr).iter().any(|c| c.type_ == kind);
        if of(old) && !of(csr) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&at, why));
        }
        if kind == FAILED && !of(old) && of(csr) {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    errors
}
