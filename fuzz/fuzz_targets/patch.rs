//! Any bytes as a patch of each type.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_apiserver::fuzzing::patch_anything(data));
