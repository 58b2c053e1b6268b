//! Any bytes as what the store has for a secret that is to be encrypted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_apiserver::fuzzing::open_stored(data));
