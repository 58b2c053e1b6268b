//! The query parameters of resource requests.

use berth_api::status::ApiError;

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// `fieldValidation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// `propagationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    pub(crate) fn parse(value: &str) -> Result<Self, ApiError> {
        match value {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => Err(ApiError::BadRequest(format!(
                "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            ))),
        }
    }
}

/// All parameters that any verb knows; each verb looks at its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) include_object: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
}

fn boolean(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

fn number(key: &str, value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|_| {
        ApiError::BadRequest(format!("query parameter {key}={value:?} is not a number"))
    })
}

impl Query {
    /// Reads a query string; parameters that nobody knows are ignored, as on the stock server.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut q = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.as_ref();
            match key.as_ref() {
                "dryRun" => match value {
                    "All" => q.dry_run = true,
                    "" => {}
                    other => {
                        return Err(ApiError::BadRequest(format!(
                            "invalid dryRun value {other:?}: only \"All\" is supported"
                        )));
                    }
                },
                "fieldManager" => value.clone_into(&mut q.field_manager),
                "fieldValidation" => {
                    q.field_validation = match value {
                        "" | "Warn" => FieldValidation::Warn,
                        "Strict" => FieldValidation::Strict,
                        "Ignore" => FieldValidation::Ignore,
                        other => {
                            return Err(ApiError::BadRequest(format!(
                                "invalid fieldValidation value {other:?}: supported values are Ignore, Warn, Strict"
                            )));
                        }
                    }
                }
                "force" => q.force = boolean(value),
                "labelSelector" => value.clone_into(&mut q.label_selector),
                "fieldSelector" => value.clone_into(&mut q.field_selector),
                "limit" if !value.is_empty() => {
                    // Negative limits mean none, as on the stock server.
                    q.limit = usize::try_from(number("limit", value)?).unwrap_or(0);
                }
                "continue" => value.clone_into(&mut q.continue_token),
                "resourceVersion" => value.clone_into(&mut q.resource_version),
                "resourceVersionMatch" => {
                    q.version_match = match value {
                        "" => None,
                        "Exact" => Some(VersionMatch::Exact),
                        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                        other => {
                            return Err(ApiError::BadRequest(format!(
                                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
                            )));
                        }
                    }
                }
                "timeoutSeconds" if !value.is_empty() => {
                    q.timeout_seconds = u64::try_from(number("timeoutSeconds", value)?).ok();
                }
                "allowWatchBookmarks" => q.bookmarks = boolean(value),
                "sendInitialEvents" => q.send_initial_events = Some(boolean(value)),
                "gracePeriodSeconds" if !value.is_empty() => {
                    q.grace_period_seconds = Some(number("gracePeriodSeconds", value)?);
                }
                "propagationPolicy" if !value.is_empty() => {
                    q.propagation = Some(Propagation::parse(value)?);
                }
                "orphanDependents" if !value.is_empty() => {
                    q.orphan_dependents = Some(boolean(value));
                }
                "includeObject" => q.include_object = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(q)
    }

    /// `resourceVersion` as a number; none when it is not given.
    pub(crate) fn revision(&self) -> Result<Option<i64>, ApiError> {
        match self.resource_version.as_str() {
            "" => Ok(None),
            text => text
                .parse::<i64>()
                .ok()
                .filter(|n| *n >= 0)
                .map(Some)
                .ok_or_else(|| {
                    ApiError::BadRequest(format!(
                        "resourceVersion: Invalid value: {text:?}: must be a number"
                    ))
                }),
        }
    }
}
