//! Stored objects that are not what they should be.

use std::fmt;

use berth_api::status::ApiError;

/// An object in the store that cannot be used: it is not JSON, it is not the object that its key names, or it does not
/// fit the type of its kind. It is reported by name, shown raw where it can be, deleted when somebody asks for it in so
/// many words, and never makes a check pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable {
    /// Storage name, e.g. `core/pods`.
    pub storage: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = self.storage.rsplit('/').next().unwrap_or(&self.storage);
        write!(f, "{plural} {:?}", self.name)?;
        if !self.namespace.is_empty() {
            write!(f, " in namespace {:?}", self.namespace)?;
        }
        write!(
            f,
            " cannot be decoded from the store, the server's log says why; who may {VERB} can delete it with the option \
             {OPTION}=true (kubectl delete --raw \"PATH?{OPTION}=true\")"
        )
    }
}

/// The option of a delete that also takes what cannot be decoded.
pub(crate) const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
/// What somebody who uses it must be allowed to do, besides `delete`.
pub(crate) const VERB: &str = "unsafe-delete-ignore-read-errors";

impl From<Unreadable> for ApiError {
    fn from(error: Unreadable) -> Self {
        Self::Internal(error.to_string())
    }
}
