//! Type information of the kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_probe::fuzz::btf(data));
