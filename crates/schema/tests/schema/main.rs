//! Schemas: what is refused, and what is enforced.

#![allow(clippy::unwrap_used)] // helpers, not only tests

mod check;
mod enforce;
mod rules;
