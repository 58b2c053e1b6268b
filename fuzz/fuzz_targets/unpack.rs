//! Any bytes as a layer: nothing may crash, run away or leave the directory it is unpacked into.
//! Needs root, since layers have owners and devices.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_image::fuzzing::unpack_anything(data));
