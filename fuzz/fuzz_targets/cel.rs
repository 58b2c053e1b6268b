//! Any bytes as an expression: parsed, checked, estimated, evaluated within a budget.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| berth_cel::fuzzing::evaluate_anything(data));
