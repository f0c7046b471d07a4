//! What every hub of datagram flows needs: keyed hashing, limits in all and of one network, numbered slots with legs and
//! timers, questions to the load balancer, counted drops. Knows no protocol.

mod budget;
mod drops;
mod gate;
mod index;
mod keyed;
mod network;
mod slots;
mod tickets;

pub use drops::{Drops, Reason};
pub use gate::Limits;
pub use network::Network;

pub(crate) use gate::{Gate, Turned};
pub(crate) use index::Index;
pub(crate) use keyed::Keyed;
pub(crate) use slots::{Slots, Slotted};
pub(crate) use tickets::Tickets;

use budget::Budget;
