//! Requests whose answer is computed and not stored: reviews and tokens.

use berth_api::decode;
use berth_api::status::ApiError;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::TokenRequest;

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
        let request: TokenRequest = decode::from_value(&body).map_err(|e| {
            ApiError::BadRequest(format!(
                "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {e}"
            ))
        })?;
        let spec = request.spec.unwrap_or_default();
        self.api.admission.token(self, &spec)?;
        let answer = tokens::create(&self.api, self.namespace(), self.name(), &spec)?;
        let got = answer["spec"]["expirationSeconds"].as_i64();
        if let (Some(asked), Some(got)) = (spec.expiration_seconds, got)
            && got < asked
        {
            self.warn(format!(
                "requested expiration of {asked} seconds shortened to {got} seconds"
            ));
        }
        self.respond_bytes(StatusCode::CREATED, answer.to_string().into())
    }
}
