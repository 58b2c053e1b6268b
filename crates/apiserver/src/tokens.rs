//! Service account tokens: `serviceaccounts/token`, and the keys that make and check them.
//!
//! A token is a JWT whose claims bind it to the account and, if asked for, to a pod, secret or
//! node; it is good only while all of them exist with the same UID.

mod claims;
mod key;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use berth_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};

use self::claims::{Claims, Reference};
pub use self::key::{KeyError, SigningKey};
use crate::{api::Api, user::User};

/// Where bound objects are looked up: storage name, namespace, name.
pub type Lookup = dyn Fn(&str, &str, &str) -> Option<Value> + Send + Sync;

/// The storage names of what tokens can be bound to.
const ACCOUNTS: &str = "core/serviceaccounts";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// How service account tokens are made and checked.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Issuer, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences that the server itself accepts.
    pub audiences: Vec<String>,
    /// ECDSA P-256 or RSA key, PEM (PKCS#8); its public half checks tokens.
    pub key: Vec<u8>,
}

impl TokenConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// When the key is neither P-256 nor RSA in PKCS#8 PEM.
    pub fn verifier(&self) -> Result<TokenVerifier, KeyError> {
        Ok(TokenVerifier {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            key: Arc::new(SigningKey::from_pem(&self.key)?),
        })
    }
}

/// Makes and checks tokens with one key.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    issuer: String,
    audiences: Vec<String>,
    key: Arc<SigningKey>,
}

impl TokenVerifier {
    /// Audiences of tokens that are meant for this server.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key's public half as a JSON web key set (`/openid/v1/jwks`).
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!({"keys": [self.key.public()]})
    }

    /// The user of a token, if it is good for one of `audiences` (none: for this server).
    #[must_use]
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
        lookup: &Lookup,
    ) -> Option<User> {
        let wanted = if audiences.is_empty() {
            &self.audiences
        } else {
            audiences
        };
        let claims = Claims::decode(&self.key.open(token)?)?;
        let now = now.as_second();
        let timely = claims.not_before <= now && now < claims.expires;
        if claims.issuer != self.issuer
            || !timely
            || !claims.audiences.iter().any(|a| wanted.contains(a))
        {
            return None;
        }
        claims
            .references()
            .into_iter()
            .all(|(storage, namespace, at)| is_there(lookup, storage, namespace, at))
            .then(|| claims.user())
    }
}

/// Whether the object is still the one that the token was made for. An account or pod that is
/// being deleted keeps its tokens until it is gone.
fn is_there(lookup: &Lookup, storage: &str, namespace: &str, at: &Reference) -> bool {
    lookup(storage, namespace, &at.name).is_some_and(|object| {
        object.pointer("/metadata/uid").and_then(Value::as_str) == Some(&at.uid)
    })
}

/// Answers a create of `serviceaccounts/token`: a `TokenRequest` with its status.
///
/// # Errors
/// `NotFound` for no such account or bound object, `Invalid` for a bad request.
pub fn create(
    api: &Arc<Api>,
    _user: &User,
    namespace: &str,
    name: &str,
    request: Value,
) -> Result<Value, ApiError> {
    let Some(verifier) = &api.tokens else {
        return Err(ApiError::NotFound(berth_api::status::Subject::new(
            "",
            "serviceaccounts/token",
            name,
        )));
    };
    let storage = Arc::clone(&api.storage);
    let lookup = move |kind: &str, namespace: &str, name: &str| storage.find(kind, namespace, name);
    issue(
        verifier,
        &lookup,
        namespace,
        name,
        request,
        Timestamp::now(),
    )
}

fn issue(
    verifier: &TokenVerifier,
    lookup: &Lookup,
    namespace: &str,
    name: &str,
    mut request: Value,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let account = lookup(ACCOUNTS, namespace, name)
        .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
    let seconds = match request.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => DEFAULT_SECONDS,
        Some(value) => value.as_i64().ok_or_else(|| {
            ApiError::BadRequest("spec.expirationSeconds must be an integer".to_owned())
        })?,
    };
    check_seconds(name, seconds)?;
    let asked: Vec<String> = request
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter_map(|a| a.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    let audiences = if asked.is_empty() {
        verifier.audiences.clone()
    } else {
        asked
    };
    let mut claims = Claims::new(
        &verifier.issuer,
        &audiences,
        now.as_second(),
        seconds,
        namespace,
        Reference::of(&account),
    );
    if let Some(bound) = request
        .pointer("/spec/boundObjectRef")
        .filter(|b| !b.is_null())
    {
        bind(&mut claims, bound, lookup)?;
    }
    let token = verifier.key.seal(&claims.encode());
    let expires = now
        .saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);

    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!("TokenRequest");
    request["metadata"] =
        json!({"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)});
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(seconds);
    request["status"] = json!({"token": token, "expirationTimestamp": rfc3339(expires)});
    Ok(request)
}

fn check_seconds(name: &str, seconds: i64) -> Result<(), ApiError> {
    let detail = if seconds < MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let field = FieldPath::new("spec").child("expirationSeconds");
    let error = FieldError::invalid(&field, seconds, detail);
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        name,
        vec![error],
    ))
}

/// Ties the token to the object of `spec.boundObjectRef`.
fn bind(claims: &mut Claims, bound: &Value, lookup: &Lookup) -> Result<(), ApiError> {
    let text = |name: &str| bound.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (resource, namespace) = match kind {
        "Pod" => ("pods", claims.namespace.as_str()),
        "Secret" => ("secrets", claims.namespace.as_str()),
        "Node" => ("nodes", ""),
        _ => {
            return Err(ApiError::BadRequest(format!(
                "cannot bind token for object of type {kind}"
            )));
        }
    };
    let object = lookup(&format!("core/{resource}"), namespace, name)
        .ok_or_else(|| ApiError::not_found("", resource, name))?;
    let found = Reference::of(&object);
    if !uid.is_empty() && uid != found.uid {
        let message = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", resource, name, message));
    }
    match kind {
        "Pod" => {
            let account = object
                .pointer("/spec/serviceAccountName")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if account != claims.account.name {
                return Err(ApiError::BadRequest(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    claims.account.name
                )));
            }
            claims.pod = Some(found);
            let node = object
                .pointer("/spec/nodeName")
                .and_then(Value::as_str)
                .and_then(|node| lookup("core/nodes", "", node));
            claims.node = node.as_ref().map(Reference::of);
        }
        "Secret" => claims.secret = Some(found),
        _ => claims.node = Some(found),
    }
    Ok(())
}

fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
