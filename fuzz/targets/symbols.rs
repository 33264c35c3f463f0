//! The kernel's table of symbols.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_probe::fuzz::symbols(data));
