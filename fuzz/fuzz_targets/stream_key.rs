//! See `srs_proxy_tests::fuzz::stream_key`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use srs_proxy_tests::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::stream_key(bytes));
