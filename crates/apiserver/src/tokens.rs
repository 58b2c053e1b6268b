//! Service account tokens: `serviceaccounts/token`, and the keys that make and check them.
//!
//! A token is a JWT whose claims bind it to the account and, if asked for, to a pod, secret or
//! node; it is good only while all of them exist with the same UID, and none of them has been deleted for longer than
//! [`LEEWAY_SECONDS`].

mod claims;
mod key;
mod legacy;
mod usage;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequestSpec};
use serde_json::{Value, json};

use berth_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};

use self::claims::{Claims, Reference};
pub use self::key::{KeyError, SigningKey};
pub use self::usage::Usage;
pub(crate) use self::usage::{TRACKING, day};
use crate::{storage::Storage, user::TokenUser};

/// Where bound objects are looked up: storage name, namespace, name.
pub type Lookup = dyn Fn(&str, &str, &str) -> Option<Value> + Send + Sync;

const ACCOUNTS: &str = "core/serviceaccounts";
pub(crate) const SECRETS: &str = "core/secrets";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// How long after an object's deletionTimestamp (at which its grace has ended) its tokens still count, for clocks
/// that differ.
const LEEWAY_SECONDS: i64 = 60;

/// How service account tokens are made and checked.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Issuer, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences that the server itself accepts.
    pub audiences: Vec<String>,
    /// ECDSA P-256 or RSA key, PEM (PKCS#8); its public half checks tokens.
    pub key: Vec<u8>,
    /// The longest life of a token in seconds (stock: `--service-account-max-token-expiration`); requests for more
    /// get this much.
    pub max_expiration_seconds: Option<i64>,
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
            max_seconds: self.max_expiration_seconds.unwrap_or(MAX_SECONDS),
        })
    }
}

/// Makes and checks tokens with one key.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    issuer: String,
    audiences: Vec<String>,
    key: Arc<SigningKey>,
    max_seconds: i64,
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

    /// The user of a token, if it is good for one of `audiences` (none: for this server), and for which of them. The
    /// Secret of a token that is kept in one is told to `used`: namespace and name.
    #[must_use]
    pub fn user_of(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
        lookup: &Lookup,
        used: &dyn Fn(&str, &str),
    ) -> Option<TokenUser> {
        let wanted = if audiences.is_empty() {
            &self.audiences
        } else {
            audiences
        };
        let claims = self.key.open(token)?;
        if legacy::Claims::are_these(&claims) {
            return self.verify_legacy(token, &claims, wanted, lookup, used);
        }
        let claims = Claims::decode(&claims)?;
        let now = now.as_second();
        let timely = claims.not_before <= now && now < claims.expires;
        let good_for: Vec<String> = claims
            .audiences
            .iter()
            .filter(|a| wanted.contains(a))
            .cloned()
            .collect();
        if claims.issuer != self.issuer || !timely || good_for.is_empty() {
            return None;
        }
        claims
            .references()
            .into_iter()
            .all(|(storage, namespace, at)| is_there(lookup, storage, namespace, at, now))
            .then(|| TokenUser {
                user: claims.user(),
                audiences: good_for,
            })
    }

    fn verify_legacy(
        &self,
        token: &str,
        claims: &Value,
        wanted: &[String],
        lookup: &Lookup,
        used: &dyn Fn(&str, &str),
    ) -> Option<TokenUser> {
        let claims = legacy::Claims::decode(claims)?;
        let own = self.audiences.iter();
        let good_for: Vec<String> = own.filter(|a| wanted.contains(a)).cloned().collect();
        let namespace = claims.namespace.as_str();
        let secret = lookup(SECRETS, namespace, &claims.secret)?;
        let account = lookup(ACCOUNTS, namespace, &claims.account.name)?;
        if good_for.is_empty() || !claims.held(&secret, token) || !claims.is_for(&account) {
            return None;
        }
        used(namespace, &claims.secret);
        (!legacy::Claims::invalid(&secret)).then(|| TokenUser {
            user: claims.user(),
            audiences: good_for,
        })
    }
}

/// Whether the object is still the one that the token was made for, and not deleted. While an account or pod has
/// time to end it keeps its tokens.
fn is_there(lookup: &Lookup, storage: &str, namespace: &str, at: &Reference, now: i64) -> bool {
    let Some(object) = lookup(storage, namespace, &at.name) else {
        return false;
    };
    let same = object.pointer("/metadata/uid").and_then(Value::as_str) == Some(&at.uid);
    let ends = match object.pointer("/metadata/deletionTimestamp") {
        None | Some(Value::Null) => None,
        // one that can't be read is long past
        Some(at) => Some(
            at.as_str()
                .and_then(|at| at.parse::<Timestamp>().ok())
                .map_or(i64::MIN, Timestamp::as_second),
        ),
    };
    same && ends.is_none_or(|ends| now < ends.saturating_add(LEEWAY_SECONDS))
}

/// Answers a create of `serviceaccounts/token`: a `TokenRequest` with its status. A server without a key has no such
/// subresource.
///
/// # Errors
/// `NotFound` for no such account or bound object, `Invalid` for a bad request.
pub fn create(
    verifier: Option<&TokenVerifier>,
    storage: &Arc<Storage>,
    namespace: &str,
    name: &str,
    request: &TokenRequestSpec,
) -> Result<Value, ApiError> {
    let Some(verifier) = verifier else {
        return Err(ApiError::NotFound(berth_api::status::Subject::new(
            "",
            "serviceaccounts/token",
            name,
        )));
    };
    let storage = Arc::clone(storage);
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
    request: &TokenRequestSpec,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let account = lookup(ACCOUNTS, namespace, name)
        .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
    let asked = request.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    check_seconds(name, asked)?;
    let seconds = asked.min(verifier.max_seconds);
    let audiences = match request.audiences.as_deref() {
        None | Some([]) => &verifier.audiences,
        Some(asked) => asked,
    };
    let mut claims = Claims::new(
        &verifier.issuer,
        audiences,
        now.as_second(),
        seconds,
        namespace,
        Reference::of(&account),
    );
    if let Some(bound) = &request.bound_object_ref {
        bind(&mut claims, bound, lookup)?;
    }
    let token = verifier.key.seal(&claims.encode());
    let expires = now
        .saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);
    Ok(json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)},
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": request.bound_object_ref,
        },
        "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
    }))
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
fn bind(
    claims: &mut Claims,
    bound: &BoundObjectReference,
    lookup: &Lookup,
) -> Result<(), ApiError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (kind, name, uid) = (text(&bound.kind), text(&bound.name), text(&bound.uid));
    let (kind, name) = (kind.as_str(), name.as_str());
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
