//! Requests whose answer is computed and not stored: reviews and tokens.

use berth_api::status::ApiError;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::TokenRequest;

use super::Call;
use crate::admission::{self, Form, Operation, decode_posted};
use crate::http_types::Response;
use crate::object::Object;
use crate::query::Options;
use crate::registry::Review;
use crate::reviews::Reviewer;
use crate::{negotiate, tokens};

impl Call {
    /// Answers a POST of a review.
    pub(crate) async fn review(&self, asked: Review) -> Result<Response, ApiError> {
        self.query.check(Options::Create)?;
        let body = negotiate::document(&self.headers, &self.body)?;
        let mut review = self.decode(body)?;
        if self.row.namespaced() {
            self.settle_namespace(review.metadata_mut())?;
        }
        let attributes = self.admitted(Operation::Create, "", "", None);
        let admission = &self.api.admission;
        admission.admit(&attributes, &mut review).await?;
        admission
            .validate(&attributes, Some(review.as_ref()))
            .await?;
        let review = review.to_value()?;
        let answer = Reviewer {
            authorizer: &self.api.authorizer,
            authenticator: &self.api.authenticator,
            user: &self.user,
            row: &self.row,
        }
        .answer(asked, self.namespace(), review)?;
        self.respond_bytes(StatusCode::CREATED, answer.to_string().into())
    }

    /// Answers a POST of a TokenRequest.
    pub(crate) async fn token(&self) -> Result<Response, ApiError> {
        let document = negotiate::document(&self.headers, &self.body)?;
        let mut request: Box<dyn Object> = Box::new(self.posted::<TokenRequest>(document)?);
        self.settle_namespace(request.metadata_mut())?;
        let name = request.name();
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::BadRequest(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let attributes = admission::Attributes {
            form: Form::Posted(decode_posted::<TokenRequest>),
            ..self.admitted(Operation::Create, self.subresource(), self.name(), None)
        };
        let admission = &self.api.admission;
        admission.admit(&attributes, &mut request).await?;
        admission
            .validate(&attributes, Some(request.as_ref()))
            .await?;
        let request: &TokenRequest = request.typed()?;
        let spec = request.spec.clone().unwrap_or_default();
        let answer = tokens::create(
            self.api.tokens.as_ref(),
            &self.api.storage,
            self.namespace(),
            self.name(),
            &spec,
        )?;
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
