//! Expressions, evaluated: cel-spec's rules, Kubernetes' functions, errors, costs, and attacks.

#![allow(clippy::unwrap_used)] // helpers, not only tests

mod attacks;
mod costs;
mod errors;
mod harness;
mod kubernetes;
mod mutations;
mod spec;
