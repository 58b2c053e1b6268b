//! The API server over real HTTP: what clients rely on, verb by verb.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "api/harness.rs"]
mod harness;

#[path = "api/access.rs"]
mod access;
#[path = "api/classes.rs"]
mod classes;
#[path = "api/custom.rs"]
mod custom;
#[path = "api/encryption.rs"]
mod encryption;
#[path = "api/evictions.rs"]
mod evictions;
#[path = "api/gates.rs"]
mod gates;
#[path = "api/kinds.rs"]
mod kinds;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/logs.rs"]
mod logs;
#[path = "api/owners.rs"]
mod owners;
#[path = "api/quotas.rs"]
mod quotas;
#[path = "api/representations.rs"]
mod representations;
#[path = "api/scale.rs"]
mod scale;
#[path = "api/several.rs"]
mod several;
#[path = "api/strict.rs"]
mod strict;
#[path = "api/watches.rs"]
mod watches;
#[path = "api/writes.rs"]
mod writes;
