//! Scenarios of the lab.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_lab::fuzz::scenario(data));
