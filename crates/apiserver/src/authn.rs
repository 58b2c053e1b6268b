//! Who a request is: client certificates, bearer tokens, anonymous.

use std::sync::Arc;

use http::request::Parts;
use rustls_pki_types::CertificateDer;

use berth_api::status::ApiError;

use crate::storage::Storage;
use crate::user::User;

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
}

impl Default for AuthnConfig {
    fn default() -> Self {
        Self {
            static_tokens: Vec::new(),
            anonymous: true,
        }
    }
}

/// Finds the user of a request.
pub struct Authenticator {
    config: AuthnConfig,
    _storage: Arc<Storage>,
}

impl Authenticator {
    /// An authenticator that reads service accounts from `storage`.
    #[must_use]
    pub fn new(config: AuthnConfig, storage: Arc<Storage>) -> Self {
        Self {
            config,
            _storage: storage,
        }
    }

    /// The user of a request. `peer_certs` is the verified chain of a TLS client, leaf first.
    ///
    /// # Errors
    /// `Unauthorized` for credentials that are not valid.
    pub fn authenticate(
        &self,
        parts: &Parts,
        _peer_certs: Option<&[CertificateDer<'static>]>,
    ) -> Result<User, ApiError> {
        let bearer = parts
            .headers
            .get(http::header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "));
        match bearer {
            None if self.config.anonymous => Ok(User::anonymous()),
            None => Err(ApiError::Unauthorized),
            Some(token) => self
                .config
                .static_tokens
                .iter()
                .find(|t| t.token == token)
                .map(|t| t.user.clone())
                .ok_or(ApiError::Unauthorized),
        }
    }
}
