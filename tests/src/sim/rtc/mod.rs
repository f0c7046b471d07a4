//! WebRTC for the simulator: what its peers say, and a driver for a hub alone.

mod desk;
mod people;
pub mod wire;

pub use crate::sim::desk::Sent;
pub use desk::Desk;
pub use people::{Book, Forger, Origin, Plan, Shared, Socket, client};
pub use wire::{check, dtls, media, refusal, rtcp, success};

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::query::RtcSession;

/// A session of this name, and of a stream that is named after it.
///
/// # Panics
/// If that makes no stream's name.
pub fn session(name: &str) -> RtcSession {
    let key = StreamKey::new("", "live", &name.replace(':', "-")).expect("a stream's name");
    RtcSession { username: name.into(), key, resource: "".into() }
}
