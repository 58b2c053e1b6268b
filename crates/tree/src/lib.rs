//! Directories that pods and images have filled, with whatever they like: counted ([`Walk`], [`Meter`]), removed
//! ([`remove`]), and given to a group ([`give_to_group`]).
//!
//! Nothing here follows a link, enters a mount, goes down by recursion or builds a path that grows with the depth, so a
//! tree harms nobody by how it is made. All functions block.

mod group;
mod meter;
mod remove;
mod walk;

pub use group::give_to_group;
pub use meter::Meter;
pub use remove::remove;
pub use walk::{Usage, Walk};
