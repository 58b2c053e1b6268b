//! Structural schemas of CustomResourceDefinitions: checked when a definition is written, enforced on its objects.
//!
//! [`check`] says what is wrong with a schema. [`Schema::compile`] reads one that is to be enforced; then [`prune`],
//! [`default`] and [`validate`] are what a write goes through. [`JsonPath`] is what printer columns and selectable fields
//! are written in.

mod check;
mod default;
mod formats;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod jsonpath;
mod path;
mod prune;
mod rules;
mod schema;
mod steps;
mod validate;

pub use check::{Options, check, check_scale_path, check_selectable_fields};
pub use default::default;
pub use formats::is_known as is_known_format;
pub use jsonpath::{BadPath, JsonPath};
pub use prune::prune;
pub use schema::{Additional, Kind, ListType, Schema, Unenforceable};
pub use steps::TooMuch;
pub use validate::validate;
