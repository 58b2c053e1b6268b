//! The version that this server says it is.

/// The API types and rules are those of Kubernetes 1.36.
pub const GIT_VERSION: &str = concat!("v1.36.0+berth-", env!("CARGO_PKG_VERSION"));
