//! See `srs_proxy_tests::fuzz::redis_records`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use srs_proxy_tests::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::redis_records(bytes));
