//! What the tests and benchmarks of srs-proxy share. Nothing of it is part of the product.

pub mod bench;
pub mod fuzz;
pub mod http;
pub mod peers;
pub mod rewriting;
pub mod rtmp;
pub mod signalling;
pub mod sim;
pub mod srt;
