//! SRT: its packets as far as a proxy must know them, which stream a caller means, and where its packets go. Decrypts
//! nothing, reads no media, and repeats nothing that was lost but handshakes.

mod drops;
pub mod handshake;
mod hub;
pub mod packet;
pub mod stream_id;

pub use drops::DropReason;
pub use hub::{IDLE, LINGER, PROOF, RETRY, SETUP_TIMEOUT, SrtHub};
