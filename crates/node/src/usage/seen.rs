//! What is remembered between two looks.

use super::disk::Disks;
use super::rates::Rates;
use super::runtime::Asked;

/// What is remembered between two looks.
#[derive(Default)]
pub(crate) struct Usage {
    /// The runtime's last answers.
    pub(crate) asked: Asked,
    /// CPU use as a rate.
    pub(crate) rates: Rates,
    /// What pods hold on disk, published by `eviction::keep`.
    pub(crate) disks: Disks,
}
