//! Answers of the kernel to dumps.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_collect::fuzz::netlink(data));
