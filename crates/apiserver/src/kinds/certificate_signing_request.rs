//! certificates.k8s.io/v1 CertificateSigningRequest. Who may approve and sign is admission's
//! (`admission/certificates.rs`).

use berth_api::status::ApiError;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::READ_WRITE;
use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{NONE, Printer, age, created_ago, items, name, text};
use crate::registry::{Gvk, Scope, Subresource, SubresourceHandler};
use crate::strategy::{Cluster, Write};

impl Kind for CertificateSigningRequest {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] =
        &[FieldLabel::new("spec.signerName", "/spec/signerName")];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        vec![
            Subresource::new(
                "approval",
                Gvk::of::<Self>(),
                READ_WRITE,
                SubresourceHandler::Approval,
            ),
            Subresource::status::<Self>(),
        ]
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Age", "string", 0),
                ("SignerName", "string", 0),
                ("Requestor", "string", 0),
                ("RequestedDuration", "string", 0),
                ("Condition", "string", 0),
            ],
            |object, now| {
                let seconds = object["spec"]["expirationSeconds"].as_i64();
                vec![
                    name(object),
                    created_ago(object, now),
                    json!(text(object, "/spec/signerName")),
                    json!(text(object, "/spec/username")),
                    json!(seconds.map_or_else(|| NONE.to_owned(), age::human)),
                    json!(condition(object)),
                ]
            },
        )
    }

    /// Who asks is what the server knows of the user, whatever the client says; conditions get their times.
    fn complete(new: &mut Self, old: Option<&Self>, write: Write<'_>) {
        if old.is_none() {
            let user = write.user;
            new.spec.username = Some(user.name.clone());
            new.spec.uid = Some(user.uid.clone()).filter(|uid| !uid.is_empty());
            new.spec.groups = Some(user.groups.clone()).filter(|groups| !groups.is_empty());
            new.spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
        }
        let now = jiff::Timestamp::from_second(write.now.as_second()).unwrap_or(write.now);
        let conditions = new
            .status
            .iter_mut()
            .flat_map(|s| s.conditions.iter_mut().flatten());
        for condition in conditions {
            condition.last_update_time.get_or_insert(Time(now));
            condition.last_transition_time.get_or_insert(Time(now));
        }
    }

    fn warnings(new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        if cluster.controllers && new.spec.signer_name.starts_with("kubernetes.io/") {
            return Ok(Vec::new());
        }
        super::controllers::warnings::<Self>(cluster)
    }
}

/// `Approved,Issued` and its like.
fn condition(csr: &Value) -> String {
    let conditions = items(csr, "/status/conditions");
    let is = |kind: &str| conditions.iter().any(|c| c["type"] == kind);
    let mut shown = Vec::new();
    if is("Denied") {
        shown.push("Denied");
    } else if is("Approved") {
        shown.push("Approved");
    } else {
        shown.push("Pending");
    }
    if is("Failed") {
        shown.push("Failed");
    }
    if !text(csr, "/status/certificate").is_empty() {
        shown.push("Issued");
    }
    shown.join(",")
}
