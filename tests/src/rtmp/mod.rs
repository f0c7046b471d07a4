//! RTMP, written a second time and simply: the yardstick for the proxy's own. Does no I/O, reads no clock, and
//! may not use the proxy's crates.
//!
//! From below: [`amf0`], [`chunk`] (an [`Encoder`] that can produce all the specification allows, and a strict
//! [`Dechunker`]), [`handshake`], [`command`]; and the scripted peers [`Client`] and [`Origin`], which turn
//! bytes into [`Event`]s and may be driven by sockets or by a simulator alike:
//!
//! ```
//! use srs_proxy_tests::rtmp::{Client, ClientScript, Event, Origin, OriginScript};
//!
//! let mut client = Client::new(ClientScript::publish("live", "s?token=t"));
//! let mut origin = Origin::new(OriginScript::default());
//! let mut events = Vec::new();
//! while !events.contains(&Event::PublishStarted { stream: "s?token=t".into() }) {
//!     origin.feed(&client.take_output()).unwrap();
//!     client.feed(&origin.take_output()).unwrap();
//!     events.extend(std::iter::from_fn(|| client.event()));
//! }
//! ```

pub mod amf0;
pub mod chunk;
mod client;
pub mod command;
pub mod handshake;
mod origin;
mod wire;

pub use chunk::{Dechunker, Encoder, Message};
pub use client::{ChunkSizeAt, Client, ClientScript, Role};
pub use command::Command;
pub use origin::{Origin, OriginScript, Refuse};
pub use wire::Wire;

use std::fmt;

/// The message types used here (RTMP 1.0 §5.4, §7.1).
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// AMF3 command: one byte, then as AMF0.
    pub const COMMAND_AMF3: u8 = 17;
    /// AMF0 data.
    pub const DATA: u8 = 18;
    /// AMF0 command.
    pub const COMMAND: u8 = 20;
    /// Aggregate.
    pub const AGGREGATE: u8 = 22;
}

/// What a scripted peer saw.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// `connect` is through. At the origin: the client's command object; at the client: the information
    /// object of the answer.
    Connected(amf0::Value),
    /// `createStream` is through, with this message stream id.
    StreamCreated(u32),
    /// The origin has said (or was the one to say) that publishing may begin.
    PublishStarted {
        /// The stream's name, query and all.
        stream: String,
    },
    /// The same for playing.
    PlayStarted {
        /// The stream's name, query and all.
        stream: String,
    },
    /// An `onStatus` arrived, of whatever level.
    Status {
        /// `status`, `warning` or `error`.
        level: String,
        /// `NetStream.Publish.Start` and its like.
        code: String,
        /// For people.
        description: String,
    },
    /// A command that the script does not answer, `_error` among them.
    Command(Command),
    /// A protocol or user control message; its effect, if any, has been applied.
    Control(Message),
    /// Media, data and all other messages.
    Message(Message),
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(pub &'static str);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Error {}
