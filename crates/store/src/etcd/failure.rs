//! What etcd's errors mean: whether something may have been written, and whether another member may know better.

use etcd_client::Error;

use crate::StoreError;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not carried out: the member cannot be reached, or has no leader. Another one may.
    NotCarriedOut(String),
    /// It may or may not have been carried out.
    Unknown(String),
    /// The past that was asked for is gone.
    Compacted,
    /// The revision that was asked for is not there yet.
    Future,
    /// The database is full.
    NoSpace,
    /// More than etcd takes at once.
    TooLarge(String),
    /// Anything else; nothing was written, and another try is no better.
    Refused(String),
}

impl Failure {
    /// Sorts an error of the client.
    pub(super) fn of(error: &Error) -> Self {
        let status = match error {
            Error::GRpcStatus(status) => status,
            Error::TransportError(error) => return Self::of_transport(error),
            Error::InvalidArgs(_) | Error::InvalidUri(_) => {
                return Self::Refused(error.to_string());
            }
            other => return Self::Unknown(other.to_string()),
        };
        let message = status.message();
        let has = |part: &str| message.contains(part);
        // etcd's own words; what they mean has not changed since 3.0 (api/v3rpc/rpctypes).
        if has("required revision has been compacted") {
            return Self::Compacted;
        }
        if has("required revision is a future revision") {
            return Self::Future;
        }
        if has("database space exceeded") {
            return Self::NoSpace;
        }
        if has("request is too large") || has("message larger than max") {
            return Self::TooLarge(message.to_owned());
        }
        if has("etcdserver: no leader") || has("too many requests") || has("not capable") {
            return Self::NotCarriedOut(message.to_owned());
        }
        if let Some(cause) = never_connected(status) {
            return Self::NotCarriedOut(cause);
        }
        let text = match deepest(status) {
            Some(cause) if !has(&cause) => format!("{message}: {cause}"),
            _ => message.to_owned(),
        };
        let by_etcd = has("etcdserver: ") || has("auth: ");
        let passes = has("timed out")
            || has("leader changed")
            || has("server stopped")
            || has("unhealthy cluster")
            || has("raft proposal dropped");
        if by_etcd && !passes {
            return Self::Refused(text);
        }
        Self::Unknown(text)
    }

    fn of_transport(error: &(dyn std::error::Error + 'static)) -> Self {
        match never_connected(error) {
            Some(cause) => Self::NotCarriedOut(cause),
            None => Self::Unknown(deepest(error).unwrap_or_else(|| error.to_string())),
        }
    }

    /// Whether another member may do better.
    pub(super) fn moves_on(&self) -> bool {
        matches!(self, Self::NotCarriedOut(_) | Self::Unknown(_))
    }

    /// As the store's error.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::NotCarriedOut(detail) => StoreError::Unavailable { detail },
            Self::Unknown(detail) => StoreError::Interrupted { detail },
            Self::Compacted => StoreError::Compacted { compacted: 0 },
            Self::Future => StoreError::Future {
                asked: 0,
                current: 0,
            },
            Self::NoSpace => StoreError::EtcdFull,
            Self::TooLarge(detail) => StoreError::TooLarge { detail },
            Self::Refused(detail) => StoreError::Refused { detail },
        }
    }
}

/// What kept a connection from being made, when that is the reason: nothing was sent then.
fn never_connected(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let refused = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused || error.is::<tonic::ConnectError>() {
            return Some(deepest(error).unwrap_or_else(|| error.to_string()));
        }
        next = error.source();
    }
    None
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: tonic::Status) -> StoreError {
        Failure::of(&Error::GRpcStatus(status)).into_error()
    }

    #[test]
    fn errors_say_whether_something_may_have_been_written() {
        let unavailable = |text: &str| sorted(tonic::Status::unavailable(text));
        assert!(matches!(
            unavailable("etcdserver: no leader"),
            StoreError::Unavailable { .. }
        ));
        for text in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "keep-alive timed out",
        ] {
            let error = unavailable(text);
            assert!(
                matches!(error, StoreError::Interrupted { .. }),
                "{text}: {error}"
            );
        }
        let full = sorted(tonic::Status::resource_exhausted(
            "etcdserver: mvcc: database space exceeded",
        ));
        assert!(matches!(full, StoreError::EtcdFull), "{full}");
        assert!(full.to_string().contains("alarm"), "{full}");
        let denied = sorted(tonic::Status::permission_denied(
            "etcdserver: permission denied",
        ));
        assert!(matches!(denied, StoreError::Refused { .. }), "{denied}");
        let large = sorted(tonic::Status::invalid_argument(
            "etcdserver: request is too large",
        ));
        assert!(matches!(large, StoreError::TooLarge { .. }), "{large}");
        let lost = sorted(tonic::Status::unknown("h2 protocol error"));
        assert!(matches!(lost, StoreError::Interrupted { .. }), "{lost}");
    }
}
