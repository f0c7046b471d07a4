//! WebRTC: what the signalling says, and where media goes. Reads no HTTP and asks nobody.

pub mod envelope;
pub mod sdp;
