//! See `srs_proxy_tests::fuzz::srt_hub`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use srs_proxy_tests::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::srt_hub(bytes));
