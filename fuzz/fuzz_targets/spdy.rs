//! Any bytes as what a client of exec, attach or port-forward sends over SPDY/3.1.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_cri::fuzzing::speak_spdy(data));
