//! What proves the proxy: real programs around it, and the tests that use them.

pub mod peers;
