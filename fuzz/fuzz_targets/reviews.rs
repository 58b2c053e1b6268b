//! Any bytes as what an admission webhook or one that converts answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_apiserver::fuzzing::read_reviews(data));
