//! WebRTC: what its signalling says, whose a datagram of its media is, and where it goes. Decrypts nothing, checks no
//! integrity, and reads no media.

pub mod demux;
mod drops;
pub mod envelope;
mod hub;
pub mod sdp;
pub mod stun;

pub use drops::DropReason;
pub use hub::{DRAIN_GRACE, IDLE, RtcHub, SETUP_TIMEOUT, UNKNOWN_LIFE};
