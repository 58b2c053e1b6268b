//! What a request can fail with, and the one mapping of that to a meta/v1 `Status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ListMeta, Status, StatusCause, StatusDetails,
};
use thiserror::Error;

use crate::field::{FieldError, aggregate, bounded};

/// The resource that an error speaks of: `runtimeclasses.node.k8s.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// API group, empty for the core group.
    pub group: String,
    /// Plural resource name, or the kind where a kind is asked for.
    pub resource: String,
    /// Object name, empty for a collection.
    pub name: String,
}

impl Subject {
    /// Names a resource (or kind) and an object of it.
    pub fn new(
        group: impl Into<String>,
        resource: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            name: name.into(),
        }
    }

    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// A failed request. [`ApiError::code`] and [`ApiError::status`] are the one mapping to the wire.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ApiError {
    /// 404: the object, or the resource's object, is not there.
    #[error("{} {:?} not found", .0.qualified(), .0.name)]
    NotFound(Subject),
    /// 404: no such path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// 409: the name is taken.
    #[error("{} {:?} already exists", .0.qualified(), .0.name)]
    AlreadyExists(Subject),
    /// 409: the object changed, or a precondition does not hold.
    #[error("Operation cannot be fulfilled on {} {:?}: {message}", .subject.qualified(), .subject.name)]
    Conflict {
        /// The object.
        subject: Subject,
        /// What does not fit.
        message: String,
    },
    /// 409: fields are owned by other managers (server-side apply): cause per field.
    #[error("{message}")]
    ApplyConflict {
        /// The whole message.
        message: String,
        /// `(field, message)` per conflict.
        conflicts: Vec<(String, String)>,
    },
    /// 422: fields are wrong. `subject.resource` holds the kind.
    #[error("{} {:?} is invalid{}", .subject.kind_qualified(), .subject.name, invalid_tail(.errors))]
    Invalid {
        /// The object, by kind.
        subject: Subject,
        /// What is wrong, field by field.
        errors: Vec<FieldError>,
    },
    /// 422 without causes: a patch that does not apply.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Unprocessable(String),
    /// 403.
    #[error("{}forbidden: {message}", forbidden_subject(.subject))]
    Forbidden {
        /// The object or collection.
        subject: Subject,
        /// Why.
        message: String,
    },
    /// 401.
    #[error("Unauthorized")]
    Unauthorized,
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 410, reason Expired: a resourceVersion or continue token that is no longer served.
    #[error("{0}")]
    Expired(String),
    /// 410, reason Expired: the moment that a list began with is no longer kept. The token goes on with the present.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list."
    )]
    ExpiredContinue {
        /// Where the list can go on.
        token: String,
    },
    /// 410, reason Gone.
    #[error("{0}")]
    Gone(String),
    /// 405.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// 413.
    #[error("{0}")]
    RequestEntityTooLarge(String),
    /// 415.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(String),
    /// 429.
    #[error("{message}")]
    TooManyRequests {
        /// Why.
        message: String,
        /// When to come again.
        retry_after_seconds: u32,
    },
    /// 429: a disruption budget does not allow an eviction now.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Disruption(String),
    /// 503.
    #[error("{0}")]
    ServiceUnavailable(String),
    /// 507: the disk is full.
    #[error("{0}")]
    InsufficientStorage(String),
    /// 504.
    #[error("Timeout: {0}")]
    Timeout(String),
    /// 504: a resourceVersion that the server has not come to within its patience.
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    TooLargeResourceVersion {
        /// What was asked for.
        asked: i64,
        /// Where the server is.
        current: i64,
    },
    /// 500.
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// What somebody outside (an admission webhook) has decided, as it has said it.
    #[error("{}", .0.message.as_deref().unwrap_or_default())]
    Denied(Box<Status>),
    /// 500 without a reason: what the stock server answers to an applied configuration that does not fit its type.
    #[error("{0}")]
    Unexplained(String),
}

impl Subject {
    fn kind_qualified(&self) -> String {
        self.qualified()
    }
}

/// What is forbidden, unless the request names no resource.
fn forbidden_subject(subject: &Subject) -> String {
    if subject.resource.is_empty() {
        return String::new();
    }
    format!("{}{} is ", subject.qualified(), quoted_name(subject))
}

fn quoted_name(subject: &Subject) -> String {
    if subject.name.is_empty() {
        String::new()
    } else {
        format!(" {:?}", subject.name)
    }
}

fn invalid_tail(errors: &[FieldError]) -> String {
    if errors.is_empty() {
        String::new()
    } else {
        format!(": {}", aggregate(errors))
    }
}

impl ApiError {
    /// [`ApiError::Invalid`] for an object of `kind`, with [`bounded`] errors.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        Self::Invalid {
            subject: Subject::new(group, kind, name),
            errors: bounded(errors),
        }
    }

    /// [`ApiError::NotFound`].
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::NotFound(Subject::new(group, resource, name))
    }

    /// [`ApiError::AlreadyExists`].
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::AlreadyExists(Subject::new(group, resource, name))
    }

    /// [`ApiError::Conflict`].
    pub fn conflict(group: &str, resource: &str, name: &str, message: impl Into<String>) -> Self {
        Self::Conflict {
            subject: Subject::new(group, resource, name),
            message: message.into(),
        }
    }

    /// [`ApiError::Forbidden`].
    pub fn forbidden(group: &str, resource: &str, name: &str, message: impl Into<String>) -> Self {
        Self::Forbidden {
            subject: Subject::new(group, resource, name),
            message: message.into(),
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Denied(status) => status
                .code
                .and_then(|c| u16::try_from(c).ok())
                .unwrap_or(500),
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound(_) | Self::NoSuchPath => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable(_) => 406,
            Self::AlreadyExists(_) | Self::Conflict { .. } | Self::ApplyConflict { .. } => 409,
            Self::Expired(_) | Self::ExpiredContinue { .. } | Self::Gone(_) => 410,
            Self::RequestEntityTooLarge(_) => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::Invalid { .. } | Self::Unprocessable(_) => 422,
            Self::TooManyRequests { .. } | Self::Disruption(_) => 429,
            Self::Internal(_) | Self::Unexplained(_) => 500,
            Self::ServiceUnavailable(_) => 503,
            Self::Timeout(_) | Self::TooLargeResourceVersion { .. } => 504,
            Self::InsufficientStorage(_) => 507,
        }
    }

    /// The machine-readable reason; empty where the stock server gives none.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Denied(status) => status.reason.as_deref().unwrap_or_default(),
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound(_) | Self::NoSuchPath => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Expired(_) | Self::ExpiredContinue { .. } => "Expired",
            Self::Gone(_) => "Gone",
            Self::RequestEntityTooLarge(_) => "RequestEntityTooLarge",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Invalid { .. } | Self::Unprocessable(_) => "Invalid",
            Self::TooManyRequests { .. } | Self::Disruption(_) => "TooManyRequests",
            Self::Internal(_) => "InternalError",
            Self::Unexplained(_) => "",
            Self::ServiceUnavailable(_) => "ServiceUnavailable",
            Self::Timeout(_) | Self::TooLargeResourceVersion { .. } => "Timeout",
            Self::InsufficientStorage(_) => "InsufficientStorage",
        }
    }

    /// Seconds after which the client may try again; none where it would be of no use.
    #[must_use]
    pub const fn retry_after_seconds(&self) -> Option<u32> {
        if let Self::TooManyRequests {
            retry_after_seconds,
            ..
        } = self
        {
            return Some(*retry_after_seconds);
        }
        if matches!(self, Self::TooLargeResourceVersion { .. }) {
            return Some(1);
        }
        None
    }

    fn details(&self) -> Option<StatusDetails> {
        let details = match self {
            Self::NotFound(subject)
            | Self::AlreadyExists(subject)
            | Self::Conflict { subject, .. }
            | Self::Forbidden { subject, .. } => StatusDetails {
                name: non_empty(&subject.name),
                group: non_empty(&subject.group),
                kind: non_empty(&subject.resource),
                ..Default::default()
            },
            Self::Invalid { subject, errors } => StatusDetails {
                name: non_empty(&subject.name),
                group: non_empty(&subject.group),
                kind: non_empty(&subject.resource),
                causes: Some(
                    errors
                        .iter()
                        .map(|e| StatusCause {
                            reason: Some(e.kind.reason().to_owned()),
                            message: Some(e.body()),
                            field: Some(e.field.clone()),
                        })
                        .collect(),
                ),
                ..Default::default()
            },
            Self::ApplyConflict { conflicts, .. } => StatusDetails {
                causes: Some(
                    conflicts
                        .iter()
                        .map(|(field, message)| StatusCause {
                            reason: Some("FieldManagerConflict".to_owned()),
                            message: Some(message.clone()),
                            field: Some(field.clone()),
                        })
                        .collect(),
                ),
                ..Default::default()
            },
            Self::TooManyRequests {
                retry_after_seconds,
                ..
            } => StatusDetails {
                retry_after_seconds: i32::try_from(*retry_after_seconds).ok(),
                ..Default::default()
            },
            Self::Disruption(why) => StatusDetails {
                causes: Some(vec![StatusCause {
                    reason: Some("DisruptionBudget".to_owned()),
                    message: Some(why.clone()),
                    field: None,
                }]),
                ..Default::default()
            },
            Self::TooLargeResourceVersion { .. } => StatusDetails {
                causes: Some(vec![StatusCause {
                    reason: Some("ResourceVersionTooLarge".to_owned()),
                    message: Some("Too large resource version".to_owned()),
                    field: None,
                }]),
                retry_after_seconds: Some(1),
                ..Default::default()
            },
            Self::Internal(message) => StatusDetails {
                causes: Some(vec![StatusCause {
                    message: Some(message.clone()),
                    ..Default::default()
                }]),
                ..Default::default()
            },
            Self::Denied(status) => return status.details.clone(),
            Self::NoSuchPath
            | Self::Unprocessable(_)
            | Self::Unauthorized
            | Self::BadRequest(_)
            | Self::Expired(_)
            | Self::ExpiredContinue { .. }
            | Self::Gone(_)
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_)
            | Self::RequestEntityTooLarge(_)
            | Self::UnsupportedMediaType(_)
            | Self::ServiceUnavailable(_)
            | Self::InsufficientStorage(_)
            | Self::Unexplained(_)
            | Self::Timeout(_) => return None,
        };
        Some(details)
    }

    /// The whole answer.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut metadata = ListMeta::default();
        if let Self::ExpiredContinue { token } = self {
            metadata.continue_ = Some(token.clone());
        }
        Status {
            metadata,
            status: Some("Failure".to_owned()),
            message: Some(self.to_string()),
            reason: non_empty(self.reason()),
            details: self.details(),
            code: Some(i32::from(self.code())),
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn invalid_lists_every_cause_with_type_and_field() {
        let error = ApiError::invalid(
            "node.k8s.io",
            "RuntimeClass",
            "x",
            vec![
                FieldError::required(&FieldPath::new("handler"), ""),
                FieldError::invalid(
                    &FieldPath::new("overhead").key("cpu"),
                    "-1",
                    "must be at least 0",
                ),
            ],
        );
        let status = serde_json::to_value(error.status()).unwrap();
        assert_eq!(
            status,
            serde_json::json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
                "message": "RuntimeClass.node.k8s.io \"x\" is invalid: [handler: Required value, overhead[cpu]: Invalid value: \"-1\": must be at least 0]",
                "details": {"name": "x", "group": "node.k8s.io", "kind": "RuntimeClass", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "handler"},
                    {"reason": "FieldValueInvalid", "message": "Invalid value: \"-1\": must be at least 0", "field": "overhead[cpu]"},
                ]},
            })
        );
    }

    #[test]
    fn messages_are_the_ones_users_know() {
        let pod = || Subject::new("", "pods", "a");
        let table = [
            (ApiError::NotFound(pod()), 404, "pods \"a\" not found"),
            (
                ApiError::AlreadyExists(Subject::new("node.k8s.io", "runtimeclasses", "g")),
                409,
                "runtimeclasses.node.k8s.io \"g\" already exists",
            ),
            (
                ApiError::Forbidden {
                    subject: pod(),
                    message: "no".into(),
                },
                403,
                "pods \"a\" is forbidden: no",
            ),
            (
                ApiError::Forbidden {
                    subject: Subject::new("", "pods", ""),
                    message: "no".into(),
                },
                403,
                "pods is forbidden: no",
            ),
            (
                ApiError::Conflict {
                    subject: pod(),
                    message: "stale".into(),
                },
                409,
                "Operation cannot be fulfilled on pods \"a\": stale",
            ),
        ];
        for (error, code, message) in table {
            assert_eq!((error.code(), error.to_string().as_str()), (code, message));
        }
    }
}
