//! Any bytes as a body in protobuf, of any kind.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_apiserver::fuzzing::read_protobuf(data));
