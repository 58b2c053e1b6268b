//! Any bytes as a configuration that names handlers: berth's own, containerd's, CRI-O's, Docker's.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_cri::fuzzing::import_anything(data));
