//! Requests whose answer is computed and not stored: reviews and tokens.

use berth_api::status::ApiError;
use http::StatusCode;

use super::incoming::check_kind;
use super::{Call, meta};
use crate::http_types::Response;
use crate::query::Options;
use crate::{negotiate, reviews, tokens};

impl Call {
    /// Answers a POST of a review.
    pub(crate) async fn review(&self) -> Result<Response, ApiError> {
        self.query.check(Options::Create)?;
        let body = negotiate::document(&self.headers, &self.body)?;
        let mut review = self.decode(body)?;
        if self.row.namespaced() {
            self.settle_namespace(&mut review)?;
        }
        let answer = reviews::create(&self.api, &self.user, &self.row, self.namespace(), review)?;
        self.respond_bytes(StatusCode::CREATED, answer.to_string().into())
    }

    /// Answers a POST of a TokenRequest.
    pub(crate) async fn token(&self) -> Result<Response, ApiError> {
        let mut body = negotiate::body(&self.headers, &self.body)?;
        check_kind(&mut body, "TokenRequest", "authentication.k8s.io/v1")?;
        let name = meta::name(&body);
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::BadRequest(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let answer = tokens::create(&self.api, &self.user, self.namespace(), self.name(), body)?;
        self.respond_bytes(StatusCode::CREATED, answer.to_string().into())
    }
}
