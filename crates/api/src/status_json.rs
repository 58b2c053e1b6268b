//! A meta/v1 `Status` as the stock server writes it: its fields in Go's order, and a line feed at the end. Clients show the
//! text as it is, and tests of theirs compare it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ListMeta, Status, StatusCause, StatusDetails,
};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a ListMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<i32>,
}

#[derive(Serialize)]
struct Cause<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl<'a> From<&'a StatusDetails> for Details<'a> {
    fn from(details: &'a StatusDetails) -> Self {
        let cause = |cause: &'a StatusCause| Cause {
            reason: cause.reason.as_deref(),
            message: cause.message.as_deref(),
            field: cause.field.as_deref(),
        };
        Self {
            name: details.name.as_deref(),
            group: details.group.as_deref(),
            kind: details.kind.as_deref(),
            uid: details.uid.as_deref(),
            causes: details.causes.iter().flatten().map(cause).collect(),
            retry_after_seconds: details.retry_after_seconds,
        }
    }
}

/// The JSON of a status.
#[must_use]
pub fn status_json(status: &Status) -> Vec<u8> {
    let wire = Wire {
        kind: "Status",
        api_version: "v1",
        metadata: &status.metadata,
        status: status.status.as_deref(),
        message: status.message.as_deref(),
        reason: status.reason.as_deref(),
        details: status.details.as_ref().map(Details::from),
        code: status.code,
    };
    // Texts and numbers always have a JSON form.
    let mut bytes = serde_json::to_vec(&wire).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::status_json;
    use crate::field::{FieldError, FieldPath};
    use crate::status::ApiError;

    fn text(error: &ApiError) -> String {
        String::from_utf8(status_json(&error.status())).unwrap()
    }

    #[test]
    fn a_status_is_written_in_the_order_of_the_stock_server() {
        assert_eq!(
            text(&ApiError::already_exists("", "services", "mock-2")),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"services \"mock-2\" already exists","reason":"AlreadyExists","#,
                r#""details":{"name":"mock-2","kind":"services"},"code":409}"#,
                "\n"
            )
        );
    }

    #[test]
    fn nothing_of_a_status_is_lost() {
        let wrong = FieldError::required(&FieldPath::new("handler"), "");
        for error in [
            ApiError::invalid("node.k8s.io", "RuntimeClass", "x", vec![wrong]),
            ApiError::TooManyRequests {
                message: "busy".to_owned(),
                retry_after_seconds: 3,
            },
            ApiError::Unauthorized,
        ] {
            let written: serde_json::Value = serde_json::from_str(&text(&error)).unwrap();
            assert_eq!(written, serde_json::to_value(error.status()).unwrap());
        }
    }
}
