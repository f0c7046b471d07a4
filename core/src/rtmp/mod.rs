//! RTMP: handshake, chunk stream, commands and the session machine that routes a stream to its origin.

pub mod chunk;
mod client_side;
pub mod command;
pub mod handshake;
pub mod message;
mod origin_side;
mod relay;
mod relaying;
mod session;

pub use session::RtmpSession;
