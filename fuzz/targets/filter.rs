//! Filters in tcpdump's language, and what they are compiled to.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whydrop_filter::fuzz::filter(data));
