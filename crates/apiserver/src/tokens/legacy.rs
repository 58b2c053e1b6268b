//! Tokens in Secrets of type `kubernetes.io/service-account-token`, which a controller manager makes with the key of this
//! server. They name no time and no audience: one is good for this server for as long as its Secret holds it.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::claims::Reference;
use crate::user::{AUTHENTICATED, User};

const ISSUER: &str = "kubernetes/serviceaccount";
const PREFIX: &str = "kubernetes.io/serviceaccount/";
const TYPE: &str = "kubernetes.io/service-account-token";
const INVALID_SINCE: &str = "/metadata/labels/kubernetes.io~1legacy-token-invalid-since";

/// What such a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) namespace: String,
    pub(super) account: Reference,
    pub(super) secret: String,
}

impl Claims {
    /// Whether it is such a token: any other has another issuer.
    pub(super) fn are_these(claims: &Value) -> bool {
        claims.get("iss").and_then(Value::as_str) == Some(ISSUER)
    }

    pub(super) fn decode(claims: &Value) -> Option<Self> {
        let text = |name: &str| {
            let text = claims.get(format!("{PREFIX}{name}"))?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let read = Self {
            namespace: text("namespace")?,
            account: Reference {
                name: text("service-account.name")?,
                uid: text("service-account.uid")?,
            },
            secret: text("secret.name")?,
        };
        (claims.get("sub")?.as_str()? == read.subject()).then_some(read)
    }

    fn subject(&self) -> String {
        let account = &self.account.name;
        format!("system:serviceaccount:{}:{account}", self.namespace)
    }

    /// Whether the Secret holds this token.
    pub(super) fn held(&self, secret: &Value, token: &str) -> bool {
        let text = |pointer: &str| secret.pointer(pointer).and_then(Value::as_str);
        let Some(held) = text("/data/token").and_then(|data| BASE64.decode(data).ok()) else {
            return false;
        };
        // the hashes: how long a comparison takes says nothing about the token
        text("/type") == Some(TYPE)
            && text("/metadata/deletionTimestamp").is_none()
            && Sha256::digest(held) == Sha256::digest(token)
    }

    /// Whether the controller that cleans unused tokens up has taken this one back.
    pub(super) fn invalid(secret: &Value) -> bool {
        secret
            .pointer(INVALID_SINCE)
            .is_some_and(|since| since.as_str() != Some(""))
    }

    /// Whether the account is the one that the token was made for.
    pub(super) fn is_for(&self, account: &Value) -> bool {
        let metadata = |name: &str| account.get("metadata").and_then(|m| m.get(name));
        metadata("uid").and_then(Value::as_str) == Some(&self.account.uid)
            && metadata("deletionTimestamp").is_none_or(Value::is_null)
    }

    pub(super) fn user(&self) -> User {
        User {
            name: self.subject(),
            uid: self.account.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", self.namespace),
                AUTHENTICATED.to_owned(),
            ],
            ..User::default()
        }
    }
}
