//! WebRTC media: whose a datagram is and where it goes. Decrypts nothing, checks no integrity, and reads no media.

pub mod demux;
mod drops;
mod hub;
pub mod stun;

pub use drops::{DropReason, Drops};
pub use hub::{FLOWING_INTERVAL, RtcConfig, RtcHub, SETUP_TIMEOUT, UNKNOWN_LIFE};
