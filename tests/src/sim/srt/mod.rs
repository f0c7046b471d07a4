//! SRT for the simulator: what its peers say, and a driver for a hub alone.

mod desk;
mod people;
pub mod wire;

pub use crate::sim::desk::Sent;
pub use desk::Desk;
pub use people::{Book, Caller, Forger, Origin, Plan, Shared};
