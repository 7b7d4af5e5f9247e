//! See [`milter_tests::fuzz::mta_codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| milter_tests::fuzz::mta_codec(data));
