//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign, and that nobody
//! becomes an administrator by a certificate.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::kinds::certificate_signing_request::{APPROVAL, KUBE_APISERVER_CLIENT, request};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{Attributes, Operation, Parts, Plugin};
use crate::attributes::{Action, Asked, Attributes as Authorization, ResourceAttributes};
use crate::authz::Authorizer;
use crate::object::Object;
use crate::user::MASTERS;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

/// Who approves needs the verb `approve` on the request's signer.
pub(super) struct CertificateApproval {
    authorizer: Arc<Authorizer>,
}

impl CertificateApproval {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            authorizer: Arc::clone(&parts.authorizer),
        }
    }
}

impl Plugin for CertificateApproval {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is(GROUP, RESOURCE, APPROVAL)
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let csr = request_of(attributes, object)?;
        check_signer(
            &self.authorizer,
            attributes,
            "approve",
            &csr.spec.signer_name,
        )
    }
}

/// Who sets a certificate, or that signing failed, needs the verb `sign` on the request's signer.
pub(super) struct CertificateSigning {
    authorizer: Arc<Authorizer>,
}

impl CertificateSigning {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            authorizer: Arc::clone(&parts.authorizer),
        }
    }
}

impl Plugin for CertificateSigning {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is(GROUP, RESOURCE, "status")
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let csr = request_of(attributes, object)?;
        let old: Option<&CertificateSigningRequest> = match attributes.old {
            Some(old) => Some(old.typed()?),
            None => None,
        };
        if old.is_some_and(|old| old.status == csr.status) {
            return Ok(());
        }
        check_signer(&self.authorizer, attributes, "sign", &csr.spec.signer_name)
    }
}

/// Nobody asks for a client certificate of the group that may do everything.
pub(super) struct CertificateSubjectRestriction;

impl Plugin for CertificateSubjectRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is(GROUP, RESOURCE, "")
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let csr = request_of(attributes, object)?;
        if csr.spec.signer_name != KUBE_APISERVER_CLIENT {
            return Ok(());
        }
        let groups = request::parse(&csr.spec.request.0)
            .map_err(|error| attributes.forbidden(format!("failed to parse CSR: {error}")))?;
        if groups.iter().any(|group| group == MASTERS) {
            return Err(attributes.forbidden(format!(
                "use of {KUBE_APISERVER_CLIENT} signer with {MASTERS} group is not allowed"
            )));
        }
        Ok(())
    }
}

fn request_of<'a>(
    attributes: &Attributes<'_>,
    object: Option<&'a dyn Object>,
) -> Result<&'a CertificateSigningRequest, ApiError> {
    match object {
        Some(object) => object.typed(),
        None => Err(attributes.forbidden("there is no request to judge")),
    }
}

/// The verb on the signer by its name, or on all signers of its domain.
fn check_signer(
    authorizer: &Authorizer,
    attributes: &Attributes<'_>,
    verb: &str,
    signer: &str,
) -> Result<(), ApiError> {
    let domain = signer.split('/').next().unwrap_or_default();
    let all = format!("{domain}/*");
    let may = [signer, &all].into_iter().any(|name| {
        let asked = Asked::Resource(ResourceAttributes {
            action: Action::from_name(verb),
            group: GROUP,
            version: "*",
            namespace: "",
            resource: "signers",
            subresource: "",
            name,
            selection: None,
        });
        let user = attributes.user;
        authorizer
            .authorize(&Authorization { user, asked })
            .allowed()
    });
    if may {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}
