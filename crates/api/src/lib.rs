//! Wire types that k8s-openapi lacks, Quantity arithmetic, name rules, Status and its causes. No I/O, no tokio.
//!
//! - [`quantity`]: exact amounts ("100m", "1.5Gi") with the canonical form of apimachinery.
//! - [`field`]: paths and errors of fields, of the types that a `Status` cause carries.
//! - [`status`]: what a request can fail with, and its one mapping to a meta/v1 `Status`.
//! - [`names`]: DNS labels and subdomains, label keys and values, qualified names.
//! - [`decode`]: JSON to typed objects the way a stock API server reads them.
//! - [`runtimeclass`]: node.k8s.io v1alpha1, v1beta1 and v1, converted without loss.

pub mod decode;
pub mod field;
pub mod names;
pub mod quantity;
pub mod runtimeclass;
pub mod status;
pub mod status_json;
