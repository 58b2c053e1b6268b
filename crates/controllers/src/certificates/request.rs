//! What a CertificateSigningRequest asks for, and how far it is.

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// Certificates of users.
pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates of nodes as clients of the API server.
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates of nodes as servers.
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Whose certificate speaks for any user at the servers of APIServices (`requestheader-allowed-names`).
const FRONT_PROXY: &str = "front-proxy-client";

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Neither approved nor denied.
    Pending,
    /// Approved, without certificate.
    Approved,
    /// Denied, failed, or with its certificate.
    Done,
}

pub(super) fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == kind)
}

pub(super) fn conditions(
    request: &CertificateSigningRequest,
) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

pub(super) fn state(request: &CertificateSigningRequest) -> State {
    let status = request.status.as_ref();
    let has_certificate = status
        .and_then(|status| status.certificate.as_ref())
        .is_some_and(|certificate| !certificate.0.is_empty());
    if has_certificate || has_condition(request, "Denied") || has_condition(request, "Failed") {
        State::Done
    } else if has_condition(request, "Approved") {
        State::Approved
    } else {
        State::Pending
    }
}

/// The request with another condition.
pub(super) fn with_condition(
    request: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: String,
    now: jiff::Timestamp,
) -> CertificateSigningRequest {
    let mut next = request.clone();
    // The copy at hand has no managed fields.
    next.metadata.managed_fields = None;
    next.status
        .get_or_insert_with(CertificateSigningRequestStatus::default)
        .conditions
        .get_or_insert_default()
        .push(CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(now)),
            last_transition_time: None,
        });
    next
}

/// Subject and names of a PKCS #10 request (RFC 2986).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) common_names: Vec<String>,
    pub(super) organizations: Vec<String>,
    /// Other parts of the subject.
    pub(super) others: usize,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<std::net::IpAddr>,
    /// Alternative names that are neither: mail addresses, URIs, ...
    pub(super) other_names: usize,
}

impl Names {
    /// Reads them from PEM.
    ///
    /// # Errors
    /// What is wrong with the request, for its author.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let (rest, block) = x509_parser::pem::parse_x509_pem(pem)
            .map_err(|error| format!("spec.request is not PEM: {error}"))?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(format!(
                "spec.request has a block of type {:?}; CERTIFICATE REQUEST is expected",
                block.label
            ));
        }
        if rest.iter().any(|byte| !byte.is_ascii_whitespace()) {
            return Err("spec.request has more than one block".to_owned());
        }
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| format!("spec.request is not a certificate request: {error}"))?;
        if !rest.is_empty() {
            return Err("spec.request has bytes behind the certificate request".to_owned());
        }
        let mut names = Self::default();
        for attribute in request.certification_request_info.subject.iter_attributes() {
            let text = attribute
                .as_str()
                .map_err(|_| "a part of the subject is no text".to_owned())?
                .to_owned();
            match attribute.attr_type() {
                oid if *oid == x509_parser::oid_registry::OID_X509_COMMON_NAME => {
                    names.common_names.push(text);
                }
                oid if *oid == x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME => {
                    names.organizations.push(text);
                }
                _ => names.others += 1,
            }
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(alternative) = extension {
                for name in &alternative.general_names {
                    names.add(name)?;
                }
            }
        }
        Ok(names)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), String> {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let address = match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(four), _) => four.into(),
                    (_, Ok(sixteen)) => sixteen.into(),
                    (Err(_), Err(_)) => return Err("an IP address has another length".to_owned()),
                };
                self.addresses.push(address);
            }
            _ => self.other_names += 1,
        }
        Ok(())
    }

    /// The common name of a node's certificate, when the subject is that of one.
    pub(super) fn node(&self) -> Option<&str> {
        let [name] = self.common_names.as_slice() else {
            return None;
        };
        let node = name.strip_prefix("system:node:")?;
        (self.organizations == ["system:nodes"] && self.others == 0 && !node.is_empty())
            .then_some(name.as_str())
    }
}

/// Why a request does not fit its signer; nothing when it does. The rules of the stock signers.
pub(super) fn misfit(signer: &str, names: &Names, usages: &[String]) -> Option<String> {
    if names.common_names.iter().any(|name| name == FRONT_PROXY) {
        return Some(format!("{FRONT_PROXY:?} is the API server's own name"));
    }
    let has = |usage: &str| usages.iter().any(|u| u == usage);
    let only = |allowed: &[&str]| usages.iter().all(|u| allowed.contains(&u.as_str()));
    let wrong = match signer {
        CLIENT => {
            if !has("client auth") {
                "usages did not contain client auth"
            } else if !only(&["client auth", "digital signature", "key encipherment"]) {
                "usages contains usages other than client auth, digital signature and key encipherment"
            } else {
                return None;
            }
        }
        KUBELET_CLIENT => {
            if !names.dns.is_empty() || !names.addresses.is_empty() || names.other_names > 0 {
                "subjectAltNames are not allowed"
            } else {
                return node_misfit(names, usages, "client auth");
            }
        }
        KUBELET_SERVING => {
            if names.dns.is_empty() && names.addresses.is_empty() {
                "at least one of dnsNames or ipAddresses is required"
            } else if names.other_names > 0 {
                "email addresses and URIs are not allowed as subjectAltNames"
            } else {
                return node_misfit(names, usages, "server auth");
            }
        }
        _ => "the signer is not known here",
    };
    Some(wrong.to_owned())
}

fn node_misfit(names: &Names, usages: &[String], needed: &str) -> Option<String> {
    if names.organizations != ["system:nodes"] {
        return Some("organization in CSR is not system:nodes".to_owned());
    }
    if names.node().is_none() {
        return Some("subject common name does not begin with \"system:node:\"".to_owned());
    }
    let with = |usage: &str| usages.iter().filter(|u| *u == usage).count();
    let known = with("digital signature") + with("key encipherment") + with(needed);
    let fits = with("digital signature") == 1 && with(needed) == 1 && known == usages.len();
    (!fits).then(|| {
        format!("usages must be \"digital signature\" and {needed:?}, with or without \"key encipherment\"")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    /// A request in PEM with a new key.
    pub(crate) fn request(
        organizations: &[&str],
        common_name: &str,
        dns: &[&str],
        addresses: &[&str],
    ) -> Vec<u8> {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let addresses = addresses.iter().map(|a| a.parse().expect("an address"));
        params
            .subject_alt_names
            .extend(addresses.map(SanType::IpAddress));
        params.distinguished_name = DistinguishedName::new();
        for organization in organizations {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *organization);
        }
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).expect("a request");
        request.pem().expect("PEM").into_bytes()
    }

    pub(crate) fn decode<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    pub(crate) fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|usage| (*usage).to_owned()).collect()
    }

    #[test]
    fn names_are_read() {
        let pem = request(&["system:nodes"], "system:node:n1", &["n1"], &["10.0.0.1"]);
        let names = Names::read(&pem).expect("names");
        assert_eq!(names.node(), Some("system:node:n1"));
        assert_eq!(names.dns, ["n1"]);
        assert_eq!(
            names.addresses,
            ["10.0.0.1".parse::<std::net::IpAddr>().expect("an address")]
        );
        for wrong in [
            b"".as_slice(),
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert!(Names::read(wrong).is_err());
        }
        assert!(
            Names::read(&[pem.clone(), pem].concat()).is_err(),
            "two of them"
        );
    }

    #[test]
    fn each_signer_has_its_rules() {
        let read = |organizations: &[&str], name: &str, dns: &[&str], addresses: &[&str]| {
            Names::read(&request(organizations, name, dns, addresses)).expect("names")
        };
        let node = read(&["system:nodes"], "system:node:n1", &[], &[]);
        let serving = read(&["system:nodes"], "system:node:n1", &["n1"], &["10.0.0.1"]);
        let user = read(&["devs"], "jane", &[], &[]);
        let front_proxy = read(&[], "front-proxy-client", &[], &[]);
        let client = usages(&["digital signature", "client auth"]);
        let server = usages(&["digital signature", "key encipherment", "server auth"]);
        for (signer, names, usages, fits) in [
            (CLIENT, &user, &client, true),
            (CLIENT, &user, &server, false),
            (CLIENT, &front_proxy, &client, false),
            (KUBELET_CLIENT, &node, &client, true),
            (KUBELET_CLIENT, &node, &server, false),
            (KUBELET_CLIENT, &serving, &client, false),
            (KUBELET_CLIENT, &user, &client, false),
            (KUBELET_SERVING, &serving, &server, true),
            (KUBELET_SERVING, &serving, &client, false),
            (KUBELET_SERVING, &node, &server, false),
            ("example.com/other", &user, &client, false),
        ] {
            let wrong = misfit(signer, names, usages);
            assert_eq!(
                wrong.is_none(),
                fits,
                "{signer} {names:?} {usages:?}: {wrong:?}"
            );
        }
        let twice = usages(&["digital signature", "client auth", "client auth"]);
        assert!(misfit(KUBELET_CLIENT, &node, &twice).is_some());
    }
}
