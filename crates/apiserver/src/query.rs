//! The query parameters of resource requests.

mod duration;
mod options;
mod parameters;
mod patch;

use std::time::Duration;

use berth_api::status::ApiError;

pub(crate) use options::Options;
pub(crate) use parameters::Parameters;
pub use patch::PatchKind;

/// Parameters that count once. A second value is refused: this server and whoever reads the request beside it (a proxy, an
/// audit log) could take different ones.
const ONCE: [&str; 19] = [
    "allowWatchBookmarks",
    "continue",
    "fieldManager",
    "fieldSelector",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "includeObject",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeout",
    "timeoutSeconds",
    "watch",
];

/// Longest `timeoutSeconds`; more would be no time that a clock can show.
const TIMEOUT_SECONDS_MAX: i64 = i32::MAX as i64;

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
    /// None for a policy that does not exist.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            _ => None,
        }
    }
}

/// How long the client wants to wait for an answer (`timeout`); none when it does not say, or for 0.
///
/// # Errors
/// `BadRequest` for what is no duration.
pub(crate) fn request_timeout(parameters: &Parameters) -> Result<Option<Duration>, ApiError> {
    let given = parameters
        .first("timeout")
        .filter(|value| !value.is_empty());
    let Some(given) = given else {
        return Ok(None);
    };
    let timeout = duration::parse(given).map_err(|error| {
        ApiError::BadRequest(format!(
            "invalid timeout specified in the request URL - {error}"
        ))
    })?;
    Ok(Some(timeout).filter(|timeout| !timeout.is_zero()))
}

/// All parameters that any verb knows; each verb looks at its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) dry_run: bool,
    /// All values of `dryRun` as they came.
    dry_runs: Vec<String>,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    /// `fieldValidation` as it came, when it is none.
    unknown_validation: Option<String>,
    pub(crate) force: bool,
    /// Whether `force` was given at all.
    force_given: bool,
    pub(crate) watch: bool,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) version_match: Option<VersionMatch>,
    /// `resourceVersionMatch` as it came, when it is none.
    unknown_match: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) grace_period_seconds: Option<i64>,
    /// `propagationPolicy` as it came.
    pub(crate) propagation: Option<String>,
    pub(crate) include_object: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
    /// `ignoreStoreReadErrorWithClusterBreakingPotential`.
    pub(crate) ignore_read_errors: bool,
}

fn boolean(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

fn number(key: &str, value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|_| {
        ApiError::BadRequest(format!("query parameter {key}={value:?} is not a number"))
    })
}

/// A watch's life; none, as for 0, is the server's to choose.
fn timeout(seconds: i64) -> Result<Option<u64>, ApiError> {
    if !(0..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::BadRequest(format!(
            "query parameter timeoutSeconds={seconds} is out of range: it must be between 0 and {TIMEOUT_SECONDS_MAX}"
        )));
    }
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0))
}

impl Query {
    /// Whether a list may have to be read from the store, as it was before something has changed.
    pub(crate) fn reads_past(&self) -> bool {
        let of_version = !matches!(self.resource_version.as_str(), "" | "0");
        !self.continue_token.is_empty()
            || self.version_match == Some(VersionMatch::Exact)
            || (of_version && self.limit > 0)
    }

    /// Reads the options; parameters that nobody knows are ignored, as on the stock server.
    ///
    /// # Errors
    /// `BadRequest` for a number that is none or out of range, and for what is given more than once with different values.
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, ApiError> {
        parameters.check_once(&ONCE)?;
        let mut q = Self::default();
        for (key, value) in parameters.pairs() {
            match key {
                "dryRun" => {
                    q.dry_run = true;
                    q.dry_runs.push(value.to_owned());
                }
                "fieldManager" => value.clone_into(&mut q.field_manager),
                "fieldValidation" => {
                    q.field_validation = match value {
                        "" | "Warn" => FieldValidation::Warn,
                        "Strict" => FieldValidation::Strict,
                        "Ignore" => FieldValidation::Ignore,
                        other => {
                            q.unknown_validation = Some(other.to_owned());
                            FieldValidation::default()
                        }
                    }
                }
                "force" => {
                    q.force = boolean(value);
                    q.force_given = true;
                }
                "watch" => q.watch = boolean(value),
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
                            q.unknown_match = Some(other.to_owned());
                            None
                        }
                    }
                }
                "timeoutSeconds" if !value.is_empty() => {
                    q.timeout_seconds = timeout(number("timeoutSeconds", value)?)?;
                }
                "allowWatchBookmarks" => q.bookmarks = boolean(value),
                "sendInitialEvents" => q.send_initial_events = Some(boolean(value)),
                "gracePeriodSeconds" if !value.is_empty() => {
                    q.grace_period_seconds = Some(number("gracePeriodSeconds", value)?);
                }
                "propagationPolicy" if !value.is_empty() => {
                    q.propagation = Some(value.to_owned());
                }
                "ignoreStoreReadErrorWithClusterBreakingPotential" if !value.is_empty() => {
                    q.ignore_read_errors = boolean(value);
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

    /// [`Self::revision`] of a list, which the stock server refuses in words of its own.
    pub(crate) fn list_revision(&self) -> Result<Option<i64>, ApiError> {
        self.revision().map_err(|error| match error {
            ApiError::BadRequest(why) => {
                ApiError::BadRequest(format!("invalid resource version: {why}"))
            }
            other => other,
        })
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
                        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                    ))
                }),
        }
    }
}

/// Reads any text as a query, and checks it for each verb.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_query(text: &str) {
    let parameters = Parameters::decode(text);
    // Refused or taken: in words, and within what a clock can show.
    if let Ok(Some(timeout)) = request_timeout(&parameters) {
        assert!(!timeout.is_zero());
    }
    let Ok(query) = Query::read(&parameters) else {
        return;
    };
    let kinds = [
        Options::Create,
        Options::Patch(PatchKind::Apply),
        Options::List,
        Options::Watch,
    ];
    for options in kinds {
        let _ = query.check(options);
    }
    let _ = query.list_revision();
    let _ = query.check_delete(
        query.grace_period_seconds,
        query.propagation.as_deref(),
        query.orphan_dependents,
        query.dry_runs(),
    );
}
