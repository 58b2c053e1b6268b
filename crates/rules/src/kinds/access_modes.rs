//! How a volume may be mounted, as volumes offer it and claims ask for it.

use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// By one pod, and so in no other way.
const ONE_POD: &str = "ReadWriteOncePod";

/// At least one, each of them known, and the exclusive one alone.
pub(super) fn validate(modes: Option<&[String]>, missing: &str, at: &FieldPath) -> Vec<FieldError> {
    let modes = modes.unwrap_or_default();
    if modes.is_empty() {
        return vec![FieldError::required(at, missing)];
    }
    let unknown = modes.iter().filter(|mode| !MODES.contains(&mode.as_str()));
    let mut errors: Vec<FieldError> = unknown
        .take(ERRORS_LIMIT + 1)
        .map(|mode| FieldError::not_supported(at, mode, &MODES))
        .collect();
    if modes.len() > 1 && modes.iter().any(|mode| mode == ONE_POD) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(at, why));
    }
    errors
}
