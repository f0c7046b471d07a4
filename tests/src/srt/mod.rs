//! What SRT peers say, for the simulator, for packets by hand and for the benchmark.

pub mod wire;
