//! See [`milter_tests::fuzz::chain`].
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| milter_tests::fuzz::chain(data));
