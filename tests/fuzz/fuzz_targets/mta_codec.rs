//! See [`milter_tests::fuzz::mta_codec`].
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| milter_tests::fuzz::mta_codec(data));
