//! Capture files, as `watch -r` shows them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop::fuzz::capture(data));
