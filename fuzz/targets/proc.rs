//! Files of `/proc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_collect::fuzz::proc(data));
