//! Records of the tracer's rings and tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_probe::fuzz::records(data));
