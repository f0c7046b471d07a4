//! What the tests of srs-proxy share: the deterministic simulator.

pub mod sim;
