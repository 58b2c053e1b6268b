//! Any bytes as the query of a request, and as a continue token.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_apiserver::fuzzing::read_query(data));
