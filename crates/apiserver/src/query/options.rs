//! What is wrong with the options of a request: 422 of `CreateOptions`, `ListOptions`, ..., as the stock server says it.

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;

use super::{PatchKind, Propagation, Query, VersionMatch};

/// Longest grace period; with more the time of deletion would be none that a clock can show.
const GRACE_SECONDS_MAX: i64 = i32::MAX as i64;

/// Longest name of a field manager.
const MANAGER_MAX: usize = 128;

/// The options that a verb reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Options {
    Create,
    Update,
    Patch(PatchKind),
    List,
    Watch,
}

impl Options {
    fn kind(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch(_) => "PatchOptions",
            Self::List | Self::Watch => "ListOptions",
        }
    }
}

fn refuse(kind: &str, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("meta.k8s.io", kind, "", errors))
    }
}

fn at(name: &str) -> FieldPath {
    FieldPath::new(name)
}

impl Query {
    /// Checks the options that a verb reads; the others are ignored.
    ///
    /// # Errors
    /// `Invalid` with a cause for each.
    pub(crate) fn check(&self, options: Options) -> Result<(), ApiError> {
        let errors = match options {
            Options::Create | Options::Update => self.of_write(),
            Options::Patch(kind) => {
                let mut errors = Vec::new();
                if kind == PatchKind::Apply {
                    if self.field_manager.is_empty() {
                        let why = "is required for apply patch";
                        errors.push(FieldError::required(&at("fieldManager"), why));
                    }
                } else if self.force_given {
                    let why = "may not be specified for non-apply patch";
                    errors.push(FieldError::forbidden(&at("force"), why));
                }
                errors.extend(self.of_write());
                errors
            }
            Options::List => self.of_list(),
            Options::Watch => self.of_watch(),
        };
        refuse(options.kind(), errors)
    }

    fn of_write(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.field_manager.len() > MANAGER_MAX {
            errors.push(FieldError::too_long(&at("fieldManager"), MANAGER_MAX));
        }
        if let Some(odd) = self.field_manager.chars().find(|c| c.is_control()) {
            errors.push(FieldError::invalid(
                &at("fieldManager"),
                &self.field_manager,
                format!("invalid character {odd:?} (at position {}), should only contain printable characters",
                    self.field_manager.chars().position(|c| c == odd).unwrap_or(0)),
            ));
        }
        errors.extend(dry_run(&self.dry_runs));
        if let Some(odd) = &self.unknown_validation {
            let known = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(
                &at("fieldValidation"),
                odd,
                &known,
            ));
        }
        errors
    }

    fn of_list(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = at("resourceVersionMatch");
        if self.version_match.is_some() || self.unknown_match.is_some() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(&path, why));
            }
            errors.extend(self.not_with_continue());
            if let Some(odd) = &self.unknown_match {
                let known = ["Exact", "NotOlderThan", ""];
                errors.push(FieldError::not_supported(&path, odd, &known));
            }
            if self.version_match == Some(VersionMatch::Exact) && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(FieldError::forbidden(&at("sendInitialEvents"), why));
        }
        errors
    }

    fn of_watch(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = at("resourceVersionMatch");
        let newer = self.version_match == Some(VersionMatch::NotOlderThan);
        if self.send_initial_events.is_some() && !newer {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(&path, why));
        }
        if self.version_match.is_some() || self.unknown_match.is_some() {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(&path, why));
            }
            if !newer {
                let given = self.unknown_match.as_deref().unwrap_or("Exact");
                errors.push(FieldError::not_supported(&path, given, &["NotOlderThan"]));
            }
            errors.extend(self.not_with_continue());
        }
        errors
    }

    fn not_with_continue(&self) -> Option<FieldError> {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        (!self.continue_token.is_empty())
            .then(|| FieldError::forbidden(&at("resourceVersionMatch"), why))
    }

    /// Checks what a delete is told, in its body (`grace`, `policy`, `orphan`, `dry_runs`) and in the query. A negative
    /// grace period is one second, as on the stock server.
    ///
    /// # Errors
    /// `Invalid` with a cause for each.
    pub(crate) fn check_delete(
        &self,
        grace: Option<i64>,
        policy: Option<&str>,
        orphan: Option<bool>,
        dry_runs: &[String],
    ) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        if let Some(seconds) = grace.filter(|seconds| *seconds > GRACE_SECONDS_MAX) {
            let path = at("gracePeriodSeconds");
            let why = format!("must be less than or equal to {GRACE_SECONDS_MAX}");
            errors.push(FieldError::invalid(&path, seconds, why));
        }
        let path = at("propagationPolicy");
        if orphan.is_some() && policy.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, why));
        }
        if let Some(odd) = policy.filter(|p| Propagation::parse(p).is_none()) {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&path, odd, &known));
        }
        errors.extend(dry_run(dry_runs));
        refuse("DeleteOptions", errors)
    }

    /// All values of `dryRun`.
    pub(crate) fn dry_runs(&self) -> &[String] {
        &self.dry_runs
    }
}

fn dry_run(values: &[String]) -> Option<FieldError> {
    let known = values.iter().all(|v| v == "All");
    (!known).then(|| FieldError::not_supported(&at("dryRun"), values, &["All"]))
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;

    #[test]
    fn each_verb_looks_at_its_own_options() {
        let json = Options::Patch(PatchKind::Json);
        let apply = Options::Patch(PatchKind::Apply);
        for (query, options, want) in [
            (
                "dryRun=All&fieldValidation=Strict&fieldManager=a",
                Options::Create,
                vec![],
            ),
            (
                "dryRun=Some",
                Options::Create,
                vec!["FieldValueNotSupported dryRun"],
            ),
            (
                "dryRun=All&dryRun=",
                Options::Update,
                vec!["FieldValueNotSupported dryRun"],
            ),
            ("dryRun=Some&fieldValidation=x", Options::List, vec![]),
            (
                "fieldValidation=strict&fieldManager=a%0A",
                Options::Update,
                vec![
                    "FieldValueInvalid fieldManager",
                    "FieldValueNotSupported fieldValidation",
                ],
            ),
            ("force=true", json, vec!["FieldValueForbidden force"]),
            ("force=true&fieldManager=a", apply, vec![]),
            ("force=true", apply, vec!["FieldValueRequired fieldManager"]),
            (
                "resourceVersionMatch=Exact",
                Options::List,
                vec!["FieldValueForbidden resourceVersionMatch"],
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=7",
                Options::List,
                vec![],
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0&continue=x",
                Options::List,
                vec![
                    "FieldValueForbidden resourceVersionMatch",
                    "FieldValueForbidden resourceVersionMatch",
                ],
            ),
            (
                "resourceVersionMatch=Newest&resourceVersion=7",
                Options::List,
                vec!["FieldValueNotSupported resourceVersionMatch"],
            ),
            (
                "sendInitialEvents=true",
                Options::List,
                vec!["FieldValueForbidden sendInitialEvents"],
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                Options::Watch,
                vec![],
            ),
            (
                "sendInitialEvents=false",
                Options::Watch,
                vec!["FieldValueForbidden resourceVersionMatch"],
            ),
            (
                "resourceVersionMatch=Exact",
                Options::Watch,
                vec![
                    "FieldValueForbidden resourceVersionMatch",
                    "FieldValueNotSupported resourceVersionMatch",
                ],
            ),
        ] {
            let causes = match Query::read(&Parameters::decode(query))
                .unwrap()
                .check(options)
            {
                Ok(()) => vec![],
                Err(ApiError::Invalid { errors, .. }) => errors
                    .iter()
                    .map(|e| format!("{} {}", e.kind.reason(), e.field))
                    .collect(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(causes, want, "{options:?} {query}");
        }
    }

    #[test]
    fn of_a_delete() {
        let query = Query::default();
        let all = ["All".to_owned()];
        assert!(
            query
                .check_delete(Some(5), Some("Orphan"), None, &all)
                .is_ok()
        );
        let error = query
            .check_delete(None, Some("Odd"), Some(true), &[String::new()])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"Odd\": \
             orphanDependents and deletionPropagation cannot be both set, propagationPolicy: Unsupported value: \"Odd\": \
             supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\", dryRun: Unsupported value: [\"\"]: \
             supported values: \"All\"]"
        );
    }
    #[test]
    fn grace_periods_have_a_bound() {
        let query = Query::default();
        for (grace, fits) in [
            (-1, true),
            (0, true),
            (GRACE_SECONDS_MAX, true),
            (i64::MAX, false),
        ] {
            let checked = query.check_delete(Some(grace), None, None, &[]);
            assert_eq!(
                checked.map_err(|e| e.code()),
                if fits { Ok(()) } else { Err(422) },
                "{grace}"
            );
        }
    }
}
