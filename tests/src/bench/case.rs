//! The cases.

use super::http::origin::Framing;
use super::http::{self, Rate};
use super::measure::{Outcome, Scale, measure};
use super::peer::{Peer, Protocol};
use super::rtmp;
use crate::rtmp::Role;
use std::io;
use std::path::Path;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// RTMP.
    Rtmp(rtmp::Load),
    /// HTTP.
    Http(http::Load),
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// For the command line.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    /// What is measured.
    pub load: Load,
}

/// All cases.
pub const CASES: [Case; 24] = [
    flat("publish-flat-128", "publish, 4 flat out, 16 KB messages, chunk 128", Role::Publish, 128),
    flat("publish-flat-4096", "publish, 4 flat out, 16 KB messages, chunk 4096", Role::Publish, 4096),
    flat("publish-flat-60000", "publish, 4 flat out, 16 KB messages, chunk 60000", Role::Publish, 60_000),
    flat("play-flat-4096", "play, 4 flat out, 16 KB messages, chunk 4096", Role::Play, 4096),
    flat("play-flat-60000", "play, 4 flat out, 16 KB messages, chunk 60000", Role::Play, 60_000),
    paced("publish-paced-128", "publish, 100 × 4 Mbit/s, 16 KB messages, chunk 128", Role::Publish, 128),
    paced("publish-paced-4096", "publish, 100 × 4 Mbit/s, 16 KB messages, chunk 4096", Role::Publish, 4096),
    paced("play-paced-60000", "play, 100 × 4 Mbit/s, 16 KB messages, chunk 60000", Role::Play, 60_000),
    rtmp(
        "publish-small",
        "publish, 100 × 1 Mbit/s, 1 KB messages",
        rtmp::Load::Media {
            role: Role::Publish,
            connections: 100,
            size: 1024,
            chunk: rtmp::ONE_CHUNK,
            megabits: Some(1),
        },
    ),
    rtmp("idle", "1,000 publish sessions, 1 message a second each", rtmp::Load::Idle(1000)),
    rtmp("idle-3000", "3,000 publish sessions, 1 message a second each", rtmp::Load::Idle(3000)),
    setup("setup-1", "session setup, one at a time", Role::Publish, 1, 2000, false),
    setup("setup-16", "session setup, 16 at a time, 10,000 in all", Role::Publish, 16, 10_000, false),
    setup("setup-new-1", "session setup, each of a new stream, one at a time", Role::Publish, 1, 2000, true),
    setup(
        "setup-play-1",
        "session setup, players of 1,000 streams, one at a time",
        Role::Play,
        1,
        2000,
        false,
    ),
    live(
        "http-flv-flat-chunked",
        "HTTP-FLV, 4 flat out, 16 KB tags, chunked",
        4,
        Rate::FlatOut,
        Framing::Chunked,
    ),
    live(
        "http-flv-flat-close",
        "HTTP-FLV, 4 flat out, 16 KB tags, until close",
        4,
        Rate::FlatOut,
        Framing::Close,
    ),
    live(
        "http-flv-paced",
        "HTTP-FLV, 100 × 4 Mbit/s, 16 KB tags, chunked",
        100,
        Rate::Megabits(4),
        Framing::Chunked,
    ),
    fan_out("http-fanout-1", "HTTP-FLV, 1 stream of 1.5 Mbit/s to 1 viewer", 1),
    fan_out("http-fanout-50", "HTTP-FLV, 1 stream of 1.5 Mbit/s to 50 viewers", 50),
    fan_out("http-fanout-500", "HTTP-FLV, 1 stream of 1.5 Mbit/s to 500 viewers", 500),
    segments("http-segments-1k", "HLS segments of 1 KB, 16 connections kept", 1024),
    segments("http-segments-100k", "HLS segments of 100 KB, 16 connections kept", 100 * 1024),
    segments("http-segments-2m", "HLS segments of 2 MB, 16 connections kept", 2 * 1024 * 1024),
];

const fn rtmp(name: &'static str, title: &'static str, load: rtmp::Load) -> Case {
    Case { name, title, load: Load::Rtmp(load) }
}

const fn flat(name: &'static str, title: &'static str, role: Role, chunk: u32) -> Case {
    rtmp(name, title, rtmp::Load::Media { role, connections: 4, size: 16_384, chunk, megabits: None })
}

const fn paced(name: &'static str, title: &'static str, role: Role, chunk: u32) -> Case {
    rtmp(name, title, rtmp::Load::Media { role, connections: 100, size: 16_384, chunk, megabits: Some(4) })
}

const fn setup(
    name: &'static str,
    title: &'static str,
    role: Role,
    concurrent: usize,
    total: usize,
    new: bool,
) -> Case {
    rtmp(name, title, rtmp::Load::Setup { role, concurrent, total, new })
}

const fn live(name: &'static str, title: &'static str, viewers: usize, rate: Rate, framing: Framing) -> Case {
    Case { name, title, load: Load::Http(http::Load::Live { viewers, size: 16_384, rate, framing }) }
}

const fn fan_out(name: &'static str, title: &'static str, viewers: usize) -> Case {
    Case { name, title, load: Load::Http(http::Load::FanOut { viewers }) }
}

const fn segments(name: &'static str, title: &'static str, size: usize) -> Case {
    Case { name, title, load: Load::Http(http::Load::Segments { players: 16, size }) }
}

impl Case {
    /// What the peers pass on.
    pub fn protocol(&self) -> Protocol {
        match self.load {
            Load::Rtmp(_) => Protocol::Rtmp,
            Load::Http(_) => Protocol::Http,
        }
    }

    /// The peers that the case says something about. Without a proxy only latencies are of interest, and what
    /// the load generator can do; where routes are kept matters only while sessions are set up.
    pub fn wants(&self, peer: Peer) -> bool {
        peer.passes(self.protocol())
            && match (peer, self.load) {
                (Peer::Direct, Load::Rtmp(load)) => {
                    !matches!(load, rtmp::Load::Media { megabits: None, .. } | rtmp::Load::Idle(_))
                }
                (Peer::Direct, Load::Http(load)) => !matches!(load, http::Load::FanOut { .. }),
                (Peer::Shared, load) => matches!(load, Load::Rtmp(rtmp::Load::Setup { .. })),
                _ => true,
            }
    }

    /// Measures `peer` once.
    ///
    /// # Errors
    /// The system's: there is no origin to measure with.
    pub fn measure(&self, peer: Peer, scale: &Scale, proxy: &Path, dir: &Path) -> io::Result<Outcome> {
        match self.load {
            Load::Rtmp(load) => measure(&load, peer, scale, proxy, dir),
            Load::Http(load) => measure(&load, peer, scale, proxy, dir),
        }
    }
}
