//! See [`milter_tests::fuzz::connection`].
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| milter_tests::fuzz::connection(data));
