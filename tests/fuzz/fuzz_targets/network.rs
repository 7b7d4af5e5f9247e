//! See [`milter_tests::fuzz::network`].
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| milter_tests::fuzz::network(data));
