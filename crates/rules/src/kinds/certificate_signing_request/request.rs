//! What is in a request for a certificate.

use berth_api::field::{FieldError, FieldPath};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

/// A request that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// No PEM block of the right type, or something beside it.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NotPem,
    /// What is in the block is no request.
    #[error("the certificate request cannot be parsed: {0}")]
    NotARequest(String),
}

/// The organizations that a request is for, which become groups of the client.
///
/// # Errors
/// [`RequestError`] for what is no PEM encoded request.
pub fn parse(pem: &[u8]) -> Result<Vec<String>, RequestError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::NotPem)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(RequestError::NotPem);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| RequestError::NotARequest(error.to_string()))?;
    if !rest.is_empty() {
        return Err(RequestError::NotARequest("trailing data".to_owned()));
    }
    let subject = &request.certification_request_info.subject;
    let groups = subject.iter_organization().map(|attribute| {
        let text = attribute.as_str().map(str::to_owned);
        text.map_err(|error| RequestError::NotARequest(error.to_string()))
    });
    groups.collect()
}

/// A certificate that a signer sets: one or more PEM blocks with nothing but certificates.
pub(super) fn check_certificate(pem: &[u8], at: &FieldPath) -> Vec<FieldError> {
    let invalid = |why: String| vec![FieldError::invalid(at, "<certificate data>", why)];
    let mut count = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let block = match block {
            Ok(block) => block,
            Err(error) => return invalid(error.to_string()),
        };
        if block.label != "CERTIFICATE" {
            let label = block.label;
            return invalid(format!(
                "only CERTIFICATE PEM blocks are allowed, found {label:?}"
            ));
        }
        if let Err(error) = X509Certificate::from_der(&block.contents) {
            return invalid(error.to_string());
        }
        count += 1;
    }
    if count == 0 {
        return invalid("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Vec::new()
}
