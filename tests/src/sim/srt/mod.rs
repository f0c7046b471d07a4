//! SRT for the simulator: its peers, and a driver for a hub alone.

mod desk;
mod people;

pub use crate::sim::desk::Sent;
pub use desk::Desk;
pub use people::{Book, Caller, Forger, Origin, Plan, Shared};
