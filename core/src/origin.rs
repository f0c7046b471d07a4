//! An origin server: its identity and its registration.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

/// `{server}-{service}-{pid}`: one life of one origin server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(Arc<str>);

impl OriginId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What an origin may serve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// RTMP over TCP.
    Rtmp,
    /// HTTP-FLV, HTTP-TS, HLS, DASH over TCP.
    Http,
    /// The HTTP API: WHIP, WHEP and the server's own, over TCP.
    Api,
    /// SRT over UDP.
    Srt,
    /// WebRTC media over UDP.
    Rtc,
}

/// An origin server as it registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// `device_id` of the registration, for people.
    pub device_id: Arc<str>,
    /// `server`: the same over restarts.
    pub server: Arc<str>,
    /// `service`: new at each start.
    pub service: Arc<str>,
    /// `pid`: new at each start.
    pub pid: Arc<str>,
    /// Where it serves what: at least one RTMP entry, others as registered, in the order registered.
    pub endpoints: Vec<(Protocol, SocketAddr)>,
}
