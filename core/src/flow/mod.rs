//! What every hub of datagram flows needs: keyed hashing, networks and their budgets, numbered slots with legs and timers,
//! counted drops. Knows no protocol, decides and sends nothing.

mod budget;
mod drops;
mod keyed;
mod network;
mod slots;

pub use drops::{Drops, Reason};

pub(crate) use budget::Budget;
pub(crate) use keyed::Keyed;
pub(crate) use network::Network;
pub(crate) use slots::{Slots, Slotted};
