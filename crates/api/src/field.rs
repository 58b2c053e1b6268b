//! Paths of fields and what can be wrong with a field, as in apimachinery's `field` package.

use std::collections::HashSet;
use std::fmt;
use std::io;

/// How many errors of one object are reported.
pub const ERRORS_LIMIT: usize = 100;
/// The path of an object as a whole.
const NO_FIELD: &str = "<nil>";
/// How many bytes of an offending value are shown.
const VALUE_LIMIT: usize = 16 * 1024;

/// A path such as `spec.containers[0].resources.limits[cpu]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path of one name; dots in `name` separate several.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The path of a field inside this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        let mut path = String::with_capacity(self.0.len() + name.len() + 1);
        path.push_str(&self.0);
        path.push('.');
        path.push_str(name);
        Self(path)
    }

    /// The path of an item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of an entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(NO_FIELD);
        }
        f.write_str(&self.0)
    }
}

/// What is wrong with a field. [`FieldErrorKind::reason`] is the cause's machine-readable type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldErrorKind {
    /// A reference to something that is not there.
    NotFound,
    /// A required value is missing.
    Required,
    /// A value that must be unique is repeated.
    Duplicate,
    /// A value of a wrong form.
    Invalid,
    /// A value outside an enumeration.
    NotSupported,
    /// A field that may not be set here.
    Forbidden,
    /// A value that is too long.
    TooLong,
    /// A list with too many items.
    TooMany,
    /// Something failed while checking.
    Internal,
    /// A value of a wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The `reason` of a Status cause.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        match self {
            Self::Required | Self::Forbidden | Self::TooLong | Self::TooMany | Self::Internal => {
                false
            }
            Self::NotFound
            | Self::Duplicate
            | Self::Invalid
            | Self::NotSupported
            | Self::TypeInvalid => true,
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where.
    pub field: String,
    /// The offending value as it is shown (JSON: strings quoted), empty when it isn't shown.
    pub value: String,
    /// Why, and what would be right.
    pub detail: String,
}

impl FieldError {
    fn make(
        kind: FieldErrorKind,
        field: &FieldPath,
        value: String,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            field: field.to_string(),
            value,
            detail: detail.into(),
        }
    }

    /// A reference to something that is not there.
    pub fn not_found(field: &FieldPath, value: impl serde::Serialize) -> Self {
        Self::make(FieldErrorKind::NotFound, field, shown(&value), "")
    }

    /// A missing value.
    pub fn required(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Required, field, String::new(), detail)
    }

    /// A repeated value.
    pub fn duplicate(field: &FieldPath, value: impl serde::Serialize) -> Self {
        Self::make(FieldErrorKind::Duplicate, field, shown(&value), "")
    }

    /// A value of a wrong form.
    pub fn invalid(
        field: &FieldPath,
        value: impl serde::Serialize,
        detail: impl Into<String>,
    ) -> Self {
        Self::make(FieldErrorKind::Invalid, field, shown(&value), detail)
    }

    /// A value of a wrong type.
    pub fn type_invalid(
        field: &FieldPath,
        value: impl serde::Serialize,
        detail: impl Into<String>,
    ) -> Self {
        Self::make(FieldErrorKind::TypeInvalid, field, shown(&value), detail)
    }

    /// A value outside `supported`.
    pub fn not_supported(
        field: &FieldPath,
        value: impl serde::Serialize,
        supported: &[&str],
    ) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::make(FieldErrorKind::NotSupported, field, shown(&value), detail)
    }

    /// A field that may not be set.
    pub fn forbidden(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Forbidden, field, String::new(), detail)
    }

    /// A value of more than `max` bytes.
    pub fn too_long(field: &FieldPath, max: usize) -> Self {
        Self::make(
            FieldErrorKind::TooLong,
            field,
            String::new(),
            format!("may not be more than {max} bytes"),
        )
    }

    /// A list of more than `max` items.
    pub fn too_many(field: &FieldPath, actual: usize, max: usize) -> Self {
        Self::make(
            FieldErrorKind::TooMany,
            field,
            String::new(),
            format!("{actual}: must have at most {max} items"),
        )
    }

    /// Something failed while checking.
    pub fn internal(field: &FieldPath, detail: impl Into<String>) -> Self {
        Self::make(FieldErrorKind::Internal, field, String::new(), detail)
    }

    /// The message of a cause: everything but the field.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = self.kind.label().to_owned();
        // A value that is left out altogether is no empty text, which would be shown with its quotes.
        if self.kind.shows_value() && !self.value.is_empty() {
            body.push_str(": ");
            body.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

/// The value as JSON, of which no more is written than is shown: an error at each item of a long list may show the list.
fn shown(value: &impl serde::Serialize) -> String {
    let mut text = Beginning(Vec::new());
    let is_whole = serde_json::to_writer(&mut text, value).is_ok();
    let is_full = text.0.len() >= VALUE_LIMIT;
    let shown = String::from_utf8_lossy(&text.0);
    match (is_whole, is_full) {
        (true, _) => shown.into_owned(),
        (false, true) => format!("{}...", shown.trim_end_matches('\u{fffd}')),
        (false, false) => "<unprintable>".to_owned(),
    }
}

/// Takes [`VALUE_LIMIT`] bytes, and fails with the first one more.
struct Beginning(Vec<u8>);

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = VALUE_LIMIT - self.0.len();
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let taken = bytes.len().min(room);
        self.0.extend(bytes.iter().take(taken));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first [`ERRORS_LIMIT`] errors, and one that says how many there are where there are more.
#[must_use]
pub fn bounded(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    let count = errors.len();
    let is_bounded = count == ERRORS_LIMIT + 1
        && errors
            .last()
            .is_some_and(|e| e.kind == FieldErrorKind::TooMany && e.field == NO_FIELD);
    if count > ERRORS_LIMIT && !is_bounded {
        errors.truncate(ERRORS_LIMIT);
        errors.push(FieldError::make(
            FieldErrorKind::TooMany,
            &FieldPath::default(),
            String::new(),
            format!("{count} errors, of which the first {ERRORS_LIMIT} are shown"),
        ));
    }
    errors
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// All errors in one line: alone as it is, several in brackets.
#[must_use]
pub fn aggregate(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => {
            let mut seen = HashSet::new();
            let texts = many.iter().map(ToString::to_string);
            let distinct: Vec<String> = texts.filter(|text| seen.insert(text.clone())).collect();
            match distinct.as_slice() {
                [one] => one.clone(),
                _ => format!("[{}]", distinct.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_up_to_a_bound() {
        let at = FieldPath::new("a");
        assert_eq!(FieldError::duplicate(&at, "x").value, "\"x\"");
        for long in [
            "x".repeat(3 << 20),
            "é".repeat(3 << 20),
            "éx".repeat(1 << 20),
        ] {
            let value = FieldError::duplicate(&at, &long).value;
            assert!(value.len() <= VALUE_LIMIT + 3, "{}", value.len());
            assert!(value.starts_with('"') && value.ends_with("..."));
            let inner = value.trim_start_matches('"').trim_end_matches("...");
            assert!(long.starts_with(inner));
        }
        let fits = "x".repeat(VALUE_LIMIT - 2);
        assert_eq!(
            FieldError::duplicate(&at, &fits).value,
            format!("\"{fits}\"")
        );
    }

    #[test]
    fn errors_are_reported_up_to_a_bound() {
        let many = |n: usize| -> Vec<FieldError> {
            (0..n)
                .map(|i| FieldError::required(&FieldPath::new("a").index(i), ""))
                .collect()
        };
        assert_eq!(bounded(many(ERRORS_LIMIT)), many(ERRORS_LIMIT));
        let cut = bounded(many(5000));
        assert_eq!(cut.len(), ERRORS_LIMIT + 1);
        assert_eq!(bounded(cut.clone()), cut);
        assert_eq!(
            cut[ERRORS_LIMIT].to_string(),
            "<nil>: Too many: 5000 errors, of which the first 100 are shown"
        );
    }
}
