//! AdmissionReview: what a webhook is asked, and what it answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::status::ApiError;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::Attributes;
use super::form::{self, Form, kind_of};
use super::invocation::Invocation;
use crate::object::Object;
use crate::registry::Gvk;
use crate::user::User;

const GROUP: &str = "admission.k8s.io";

/// A version of AdmissionReview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    /// The first of the versions that a webhook takes which this server speaks.
    pub(super) fn choose(versions: &[String]) -> Option<Self> {
        versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    fn api_version(self) -> String {
        format!("{GROUP}/{}", self.as_str())
    }
}

/// What a webhook has decided.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// Why not.
    pub(super) result: Option<Status>,
    /// A JSON patch; empty: none.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    status: Option<Status>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Reads a webhook's answer to the request `uid`.
///
/// # Errors
/// What is wrong with it, in the words of the stock server.
pub(super) fn read(
    answer: &[u8],
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
) -> Result<Verdict, String> {
    let review: Review = serde_json::from_slice(answer)
        .map_err(|error| format!("it is no AdmissionReview: {error}"))?;
    let response = review
        .response
        .ok_or_else(|| "webhook response was absent".to_owned())?;
    let patch = match &response.patch {
        None => Vec::new(),
        Some(text) => STANDARD
            .decode(text)
            .map_err(|error| format!("response.patch is not valid base64: {error}"))?,
    };
    let mut patch_type = response.patch_type.clone().unwrap_or_default();
    match version {
        ReviewVersion::V1 => {
            if response.uid != uid {
                return Err(format!(
                    "expected response.uid={uid:?}, got {:?}",
                    response.uid
                ));
            }
            let wanted = version.api_version();
            if review.api_version != wanted || review.kind != "AdmissionReview" {
                return Err(format!(
                    "expected webhook response of {wanted}, Kind=AdmissionReview, got {}, Kind={}",
                    review.api_version, review.kind
                ));
            }
            check_patch(&response, patch.is_empty(), mutating)?;
        }
        ReviewVersion::V1beta1 if mutating => patch_type = "JSONPatch".to_owned(),
        ReviewVersion::V1beta1 => {}
    }
    Ok(Verdict {
        allowed: response.allowed,
        result: response.status,
        patch: if mutating { patch } else { Vec::new() },
        patch_type,
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

fn check_patch(response: &Response, no_patch: bool, mutating: bool) -> Result<(), String> {
    let wrong = match (mutating, no_patch, response.patch_type.as_deref()) {
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (true, false, Some(_)) | (_, true, None) => return Ok(()),
    };
    Err(wrong.to_owned())
}

/// What the client is told of a refusal.
pub(super) fn refusal(webhook: &str, result: Option<Status>) -> ApiError {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let mut status = result.unwrap_or_default();
    // A refusal is never a success, and has a code of an error.
    status.code = Some(status.code.unwrap_or(0).clamp(400, 599));
    status.status = Some("Failure".to_owned());
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let message = match (said(&status.message), said(&status.reason)) {
        (Some(message), _) => format!("{denied}: {message}"),
        (None, Some(reason)) => format!("{denied}: {reason}"),
        (None, None) => format!("{denied} without explanation"),
    };
    status.message = Some(message);
    ApiError::Denied(Box::new(status))
}

fn kind_value(kind: &Gvk) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// Who asks, as webhooks and policies see it.
fn user_value(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The object and the one before, as an invocation sees them; null for none.
///
/// # Errors
/// When they cannot be converted.
pub(super) async fn objects(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: Option<&dyn Object>,
) -> Result<(Value, Value), ApiError> {
    let new = match (object, &attributes.form) {
        (Some(object), _) => form::show(attributes, invocation, object).await?,
        (None, Form::Connection(options)) => Value::clone(options),
        (None, _) => Value::Null,
    };
    Ok((new, form::show_old(attributes, invocation).await?))
}

/// What is asked for, without the objects.
pub(super) fn describe(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    new: &Value,
    old: &Value,
) -> Value {
    let row = &invocation.row;
    let asked = attributes.resource;
    let (kind, request_kind) = match attributes.form {
        Form::Own => (
            Gvk::new(&row.group, &invocation.version, &row.kind),
            Gvk::new(&asked.group, attributes.version, &asked.kind),
        ),
        Form::Posted(_) | Form::Scale | Form::Connection(_) => {
            let kind = kind_of(if new.is_null() { old } else { new });
            (kind.clone(), kind)
        }
    };
    let resource = |group: &str, version: &str, plural: &str| json!({"group": group, "version": version, "resource": plural});
    let mut request = json!({
        "kind": kind_value(&kind),
        "resource": resource(&row.group, &invocation.version, &row.plural),
        "requestKind": kind_value(&request_kind),
        "requestResource": resource(&asked.group, attributes.version, &asked.plural),
        "operation": attributes.operation.as_str(),
        "userInfo": user_value(attributes.user),
        "dryRun": attributes.dry_run,
        "options": attributes.options.options(attributes.operation),
    });
    for (field, value) in [
        ("subResource", attributes.subresource),
        ("requestSubResource", attributes.subresource),
        ("name", attributes.name),
        ("namespace", attributes.namespace),
    ] {
        if !value.is_empty() {
            request[field] = json!(value);
        }
    }
    request
}

/// The request of an AdmissionReview, `object` and `oldObject` included.
///
/// # Errors
/// When the objects cannot be converted.
pub(super) async fn request(
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: Option<&dyn Object>,
    uid: &str,
) -> Result<Value, ApiError> {
    let (new, old) = objects(attributes, invocation, object).await?;
    let mut request = describe(attributes, invocation, &new, &old);
    request["uid"] = json!(uid);
    request["object"] = new;
    request["oldObject"] = old;
    Ok(request)
}

/// The whole review.
pub(super) fn encode(version: ReviewVersion, request: Value) -> Bytes {
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": version.api_version(),
        "request": request,
    });
    review.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    fn wrong(answer: &[u8], mutating: bool) -> String {
        read(answer, ReviewVersion::V1, "u", mutating).unwrap_err()
    }

    #[test]
    fn an_answer_is_to_the_question_or_none() {
        let good = answer(json!({"uid": "u", "allowed": true, "warnings": ["w"]}));
        let verdict = read(&good, ReviewVersion::V1, "u", true).unwrap();
        assert!(verdict.allowed && verdict.patch.is_empty());
        assert_eq!(verdict.warnings, ["w"]);
        for (bytes, said) in [
            (answer(json!({"uid": "v", "allowed": true})), "expected response.uid=\"u\", got \"v\""),
            (answer(json!({"allowed": true})), "expected response.uid=\"u\", got \"\""),
            (answer(Value::Null), "webhook response was absent"),
            (b"{}".to_vec(), "webhook response was absent"),
            (
                br#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "response": {"uid": "u", "allowed": true}}"#.to_vec(),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview",
            ),
        ] {
            assert_eq!(wrong(&bytes, true), said);
        }
        for bytes in [
            &b"<html>"[..],
            b"",
            br#"{"response": {"allowed": "yes"}}"#,
            b"[]",
        ] {
            assert!(wrong(bytes, true).starts_with("it is no AdmissionReview: "));
        }
    }

    #[test]
    fn a_patch_has_a_type_and_comes_from_who_may_change() {
        let patch = STANDARD.encode("[]");
        for (response, mutating, said) in [
            (
                json!({"uid": "u", "patch": patch}),
                true,
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({"uid": "u", "patchType": "", "patch": patch}),
                true,
                "webhook returned invalid response.patchType of \"\"",
            ),
            (
                json!({"uid": "u", "patch": patch}),
                false,
                "validating webhook may not return response.patch",
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                false,
                "validating webhook may not return response.patchType",
            ),
        ] {
            assert_eq!(wrong(&answer(response), mutating), said);
        }
        let response = json!({"uid": "u", "patch": "%"});
        assert!(wrong(&answer(response), true).contains("not valid base64"));
        let response =
            json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"});
        let verdict = read(&answer(response), ReviewVersion::V1, "u", true).unwrap();
        assert_eq!(
            (verdict.patch.as_slice(), verdict.patch_type.as_str()),
            (&b"[]"[..], "JSONPatch")
        );
    }

    #[test]
    fn a_refusal_is_never_a_success() {
        let status = |result: Value| {
            let result = serde_json::from_value(result).unwrap();
            let status = refusal("w.example.com", result).status();
            (
                status.code.unwrap(),
                status.message.unwrap(),
                status.status.unwrap(),
            )
        };
        let failure = || "Failure".to_owned();
        let denied = "admission webhook \"w.example.com\" denied the request";
        assert_eq!(
            status(Value::Null),
            (400, format!("{denied} without explanation"), failure())
        );
        assert_eq!(
            status(json!({"status": "Success", "code": 200, "message": "no"})),
            (400, format!("{denied}: no"), failure())
        );
        assert_eq!(
            status(json!({"code": 403, "reason": "Forbidden"})),
            (403, format!("{denied}: Forbidden"), failure())
        );
        assert_eq!(status(json!({"code": 100_000})).0, 599);
        assert_eq!(status(json!({"code": -1})).0, 400);
    }

    #[test]
    fn the_first_known_version_is_spoken() {
        let choose = |versions: &[&str]| {
            let owned: Vec<String> = versions.iter().map(ToString::to_string).collect();
            ReviewVersion::choose(&owned)
        };
        assert_eq!(
            choose(&["v2", "v1beta1", "v1"]),
            Some(ReviewVersion::V1beta1)
        );
        assert_eq!(choose(&["v2"]), None);
    }
}
