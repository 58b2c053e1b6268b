//! Any bytes as the schema of a CustomResourceDefinition and an object of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_schema::fuzzing::enforce_anything(data));
