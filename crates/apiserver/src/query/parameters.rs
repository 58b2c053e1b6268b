//! The query of a request, decoded once.

use berth_api::status::ApiError;
use http::Uri;

/// The parameters in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The parameters of an address.
    pub(crate) fn of(uri: &Uri) -> Self {
        Self::decode(uri.query().unwrap_or_default())
    }

    /// The parameters of a query string.
    pub(crate) fn decode(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// All of them.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of a parameter, where a second one does no harm.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.pairs()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// Refuses a second value of any of these: two readers could take different ones. The same value once more is no such
    /// thing, and there are clients that send it: GitLab Runner's exec has `container` twice, and the stock server reads
    /// the first.
    ///
    /// # Errors
    /// `BadRequest` that names the parameter.
    pub(crate) fn check_once(&self, names: &[&str]) -> Result<(), ApiError> {
        for name in names {
            let Some(first) = self.first(name) else {
                continue;
            };
            let mut values = self.pairs().filter(|(given, _)| given == name);
            if values.any(|(_, value)| value != first) {
                return Err(ApiError::BadRequest(format!(
                    "query parameter {name:?} is given more than once, with different values"
                )));
            }
        }
        Ok(())
    }
}
