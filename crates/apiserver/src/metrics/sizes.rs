//! Histograms with the stock server's buckets.

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The stock server's buckets of a request's duration, in seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

pub(super) fn histogram() -> Histogram {
    Histogram::new(DURATIONS)
}

pub(super) fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1000.0, 10.0, 7))
}

/// The stock server's buckets of the time for which a client's certificate is still good, in seconds.
pub(super) const EXPIRATIONS: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

#[allow(
    clippy::cast_precision_loss,
    reason = "sizes need no more than so many digits"
)]
pub(super) fn as_float(bytes: u64) -> f64 {
    bytes as f64
}
