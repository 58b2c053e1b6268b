//! Directories that pods and images have filled, with whatever they like: counted ([`Walk`], [`Meter`]) and removed
//! ([`remove`]).
//!
//! Nothing here follows a link, enters a mount, goes down by recursion or builds a path that grows with the depth, so a
//! tree harms nobody by how it is made. All functions block.

mod meter;
mod remove;
mod walk;

pub use meter::Meter;
pub use remove::remove;
pub use walk::{Usage, Walk};
