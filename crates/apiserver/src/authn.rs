//! Who a request is: client certificates, bearer tokens, anonymous.
//!
//! In the order of the stock server: a client certificate of a CA that the server knows, a static
//! token, a bootstrap token, a service account's token, anonymous. A bearer token or certificate that nobody knows is
//! refused, it does not become anonymous.

mod bootstrap;

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use k8s_openapi::api::core::v1::Secret;

use http::{header::AUTHORIZATION, request::Parts};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use berth_api::status::ApiError;

use self::bootstrap::BootstrapToken;
use crate::{
    storage::Storage,
    tokens::{self, Lookup, TokenVerifier, Usage},
    user::{AUTHENTICATED, TokenUser, User},
};

/// The largest Secret that is read whole before it is known who asks, in bytes.
const MAX_SECRET: usize = 256 << 10;

/// Where the Secrets of bootstrap tokens are looked up, by name.
type SecretLookup = dyn Fn(&str) -> Option<Secret> + Send + Sync;

/// A bearer token that stands for a user (stock: `--token-auth-file`).
#[derive(Clone, Debug)]
pub struct StaticToken {
    /// The secret.
    pub token: String,
    /// Whose it is.
    pub user: User,
}

/// How requests are authenticated, beside client certificates.
#[derive(Clone, Debug)]
pub struct AuthnConfig {
    /// Static bearer tokens.
    pub static_tokens: Vec<StaticToken>,
    /// Whether requests without credentials are `system:anonymous` (else 401).
    pub anonymous: bool,
    /// Whether bootstrap tokens are taken (stock: `--enable-bootstrap-token-auth`).
    pub bootstrap_tokens: bool,
}

impl Default for AuthnConfig {
    fn default() -> Self {
        Self {
            static_tokens: Vec::new(),
            anonymous: true,
            bootstrap_tokens: true,
        }
    }
}

/// A client certificate that the client CA vouches for, while it is valid.
#[derive(Clone, Debug)]
pub struct VerifiedCertificate {
    /// Whom it names, read once; none: nobody.
    user: Option<User>,
    /// Seconds since 1970 in which it and what is between it and the CA are valid.
    valid: RangeInclusive<i64>,
}

impl VerifiedCertificate {
    /// The certificate `leaf`, for which `between` were sent along; it was verified at `now`. None when it can't be
    /// read.
    #[must_use]
    pub fn new(
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: i64,
    ) -> Option<Self> {
        let mut valid = validity(leaf)?;
        // what isn't valid now has no part in why the leaf was
        for issuer in between.iter().filter_map(|c| validity(c)) {
            if issuer.contains(&now) {
                let start = *valid.start().max(issuer.start());
                valid = start..=*valid.end().min(issuer.end());
            }
        }
        Some(Self {
            user: user_of_certificate(leaf),
            valid,
        })
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Option<RangeInclusive<i64>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some(validity.not_before.timestamp()..=validity.not_after.timestamp())
}

/// What a TLS client has shown of itself.
#[derive(Clone, Debug, Default)]
pub enum Certificate {
    /// Nothing.
    #[default]
    None,
    /// A certificate that the client CA vouches for. A connection may outlive it.
    Verified(VerifiedCertificate),
    /// One that it does not vouch for.
    Refused,
}

impl Certificate {
    /// For how many more seconds it is good; none when there is none.
    pub(crate) fn seconds_left(&self) -> Option<i64> {
        match self {
            Self::Verified(shown) => {
                let now = jiff::Timestamp::now().as_second();
                Some(shown.valid.end().saturating_sub(now))
            }
            Self::None | Self::Refused => None,
        }
    }
}

/// Finds the user of a request.
pub struct Authenticator {
    /// By the hash of the token, so that looking one up takes the same time for all.
    static_tokens: HashMap<[u8; 32], User>,
    anonymous: bool,
    service_accounts: Option<TokenVerifier>,
    lookup: Box<Lookup>,
    /// None when bootstrap tokens are not taken.
    bootstrap_secrets: Option<Box<SecretLookup>>,
    usage: Option<Usage>,
}

impl Authenticator {
    /// An authenticator that reads service accounts from `storage`; without a verifier it takes
    /// no service account tokens.
    #[must_use]
    pub fn new(
        config: AuthnConfig,
        service_accounts: Option<TokenVerifier>,
        storage: Arc<Storage>,
    ) -> Self {
        let usage = Usage::new(Arc::clone(&storage));
        // Of a token's pod only this is read: whoever made the pod chose how large it is, and before it is known who asks
        // nothing bounds the number of requests. A Secret may hold the token itself.
        let objects = Arc::clone(&storage);
        let lookup = move |kind: &str, namespace: &str, name: &str| {
            let stored = objects.get(kind, namespace, name)?;
            if kind == tokens::SECRETS && stored.bytes.len() <= MAX_SECRET {
                return stored.value().ok();
            }
            let (uid, ends) = (&*stored.uid, stored.deletion_timestamp.as_deref());
            (!stored.corrupt).then(|| json!({"metadata": {"uid": uid, "deletionTimestamp": ends}}))
        };
        let bootstrap = config.bootstrap_tokens;
        let mut authenticator = Self::with_lookup(config, service_accounts, Box::new(lookup));
        authenticator.usage = Some(usage);
        if bootstrap {
            // Whoever writes Secrets in kube-system is an administrator: these are as large as they make them.
            let secrets =
                move |name: &str| storage.find(bootstrap::SECRETS, bootstrap::NAMESPACE, name);
            authenticator.bootstrap_secrets = Some(Box::new(secrets));
        }
        authenticator
    }

    fn with_lookup(
        config: AuthnConfig,
        service_accounts: Option<TokenVerifier>,
        lookup: Box<Lookup>,
    ) -> Self {
        let tokens = config.static_tokens.into_iter();
        Self {
            static_tokens: tokens
                .map(|t| (hash(&t.token), authenticated(t.user)))
                .collect(),
            anonymous: config.anonymous,
            service_accounts,
            lookup,
            bootstrap_secrets: None,
            usage: None,
        }
    }

    /// The user of a request.
    ///
    /// # Errors
    /// `Unauthorized` for credentials that are not valid.
    pub fn authenticate(&self, parts: &Parts, certificate: &Certificate) -> Result<User, ApiError> {
        self.authenticate_at(parts, certificate, jiff::Timestamp::now().as_second())
    }

    fn authenticate_at(
        &self,
        parts: &Parts,
        certificate: &Certificate,
        now: i64,
    ) -> Result<User, ApiError> {
        let refused = match certificate {
            Certificate::None => false,
            Certificate::Refused => true,
            Certificate::Verified(shown) if shown.valid.contains(&now) => match &shown.user {
                Some(user) => return Ok(user.clone()),
                None => true,
            },
            // it was valid when the connection came about
            Certificate::Verified(_) => true,
        };
        match bearer(parts) {
            Some(token) => self
                .authenticate_token(token, &[])
                .map(|found| found.user)
                .ok_or(ApiError::Unauthorized),
            None if refused || parts.headers.contains_key(AUTHORIZATION) || !self.anonymous => {
                Err(ApiError::Unauthorized)
            }
            None => Ok(User::anonymous()),
        }
    }

    /// The user of a bearer token that is valid for one of `audiences` (none: for this server). Static and bootstrap
    /// tokens are for this server only.
    #[must_use]
    pub fn authenticate_token(&self, token: &str, audiences: &[String]) -> Option<TokenUser> {
        if let Some(user) = self.static_tokens.get(&hash(token)) {
            return self.for_this_server(user.clone(), audiences);
        }
        if let Some(secrets) = &self.bootstrap_secrets
            && let Some(token) = BootstrapToken::parse(token)
        {
            let secret = secrets(&token.secret_name())?;
            let user = token.user(&secret, jiff::Timestamp::now())?;
            return self.for_this_server(user, audiences);
        }
        self.service_accounts.as_ref()?.user_of(
            token,
            audiences,
            jiff::Timestamp::now(),
            &self.lookup,
            &|namespace, name| {
                if let Some(usage) = &self.usage {
                    usage.note(namespace, name);
                }
            },
        )
    }

    /// A user whose token says nothing of audiences.
    fn for_this_server(&self, user: User, audiences: &[String]) -> Option<TokenUser> {
        let own = self.audiences().iter();
        let good_for: Vec<String> = own
            .filter(|a| audiences.is_empty() || audiences.contains(a))
            .cloned()
            .collect();
        (audiences.is_empty() || !good_for.is_empty()).then_some(TokenUser {
            user,
            audiences: good_for,
        })
    }

    /// The audiences of tokens that are meant for this server.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        self.service_accounts
            .as_ref()
            .map(TokenVerifier::audiences)
            .unwrap_or_default()
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
            .then_some(token.trim());
    }
    None
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn authenticated(mut user: User) -> User {
    if !user.in_group(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// CN is the name, each O a group. A certificate without CN or with several names nobody.
fn user_of_certificate(leaf: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    if name.is_empty() || names.next().is_some() {
        return None;
    }
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(str::to_owned))
        .collect();
    let mut user = User {
        name,
        groups,
        ..User::default()
    };
    let id = hex::encode(Sha256::digest(leaf));
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={id}")],
    );
    Some(authenticated(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(authorization: Option<&str>) -> Parts {
        let mut request = http::Request::builder();
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn authenticator(anonymous: bool) -> Authenticator {
        let admin = StaticToken {
            token: "secret".to_owned(),
            user: User {
                name: "admin".to_owned(),
                ..User::default()
            },
        };
        let config = AuthnConfig {
            static_tokens: vec![admin],
            anonymous,
            bootstrap_tokens: false,
        };
        Authenticator::with_lookup(config, None, Box::new(|_, _, _| None))
    }

    #[test]
    fn tokens_and_their_absence() {
        let name = |auth: Option<&str>, anonymous| {
            authenticator(anonymous)
                .authenticate(&parts(auth), &Certificate::None)
                .map(|u| u.name)
        };
        assert_eq!(name(Some("Bearer secret"), true).as_deref(), Ok("admin"));
        assert_eq!(name(Some("bearer secret"), false).as_deref(), Ok("admin"));
        assert_eq!(name(None, true).as_deref(), Ok("system:anonymous"));
        for (auth, anonymous) in [
            (Some("Bearer wrong"), true),
            (Some("Basic eDp5"), true),
            (None, false),
        ] {
            assert_eq!(
                name(auth, anonymous),
                Err(ApiError::Unauthorized),
                "{auth:?}"
            );
        }
        let refused = |auth: Option<&str>| {
            authenticator(true)
                .authenticate(&parts(auth), &Certificate::Refused)
                .map(|u| u.name)
        };
        assert_eq!(refused(None), Err(ApiError::Unauthorized));
        assert_eq!(refused(Some("Bearer secret")).as_deref(), Ok("admin"));
    }

    /// A certificate that is valid for the seconds 1000 to 2000.
    fn certificate(name: Option<&str>) -> Certificate {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
        }
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:nodes");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + std::time::Duration::from_secs(1000);
        params.not_after = epoch + std::time::Duration::from_secs(2000);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Certificate::Verified(VerifiedCertificate::new(certificate.der(), &[], 1500).unwrap())
    }

    #[test]
    fn a_certificate_counts_while_it_is_valid() {
        let shown = certificate(Some("me"));
        let at = |second| {
            authenticator(true)
                .authenticate_at(&parts(None), &shown, second)
                .map(|user| user.name)
        };
        assert_eq!(at(1000).as_deref(), Ok("me"));
        assert_eq!(at(2000).as_deref(), Ok("me"));
        assert_eq!(at(999), Err(ApiError::Unauthorized));
        assert_eq!(at(2001), Err(ApiError::Unauthorized));
        let with_token = authenticator(true)
            .authenticate_at(&parts(Some("Bearer secret")), &shown, 2001)
            .unwrap();
        assert_eq!(with_token.name, "admin");
    }

    #[test]
    fn a_certificate_that_names_nobody_is_not_anonymous() {
        let answer = authenticator(true).authenticate_at(&parts(None), &certificate(None), 1500);
        assert_eq!(answer, Err(ApiError::Unauthorized));
    }

    #[test]
    fn a_static_token_is_for_this_server() {
        let audience = |name: &str| vec![name.to_owned()];
        let authenticator = authenticator(true);
        assert!(authenticator.authenticate_token("secret", &[]).is_some());
        assert_eq!(
            authenticator.authenticate_token("secret", &audience("vault")),
            None
        );
    }

    #[test]
    fn certificates_name_user_and_groups() {
        let user = authenticator(true)
            .authenticate_at(&parts(None), &certificate(Some("system:node:a")), 1500)
            .unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            (
                "system:node:a",
                vec!["system:nodes".to_owned(), "system:authenticated".to_owned()]
            )
        );
    }
}
