//! The RTMP session: answers the client until it names its stream, takes it to the stream's origin, replays
//! there what the client said, and gets out of the way. The diagram is in docs/rtmp.md.
//!
//! The origin is sent the client's own bytes from `connect` on, so chunk sizes, chunk streams and commands are
//! the client's by construction. The client is answered by the proxy up to `createStream`, and hears the origin
//! from `publish` or `play` on. Then both directions are spliced, as soon as both ends know the same headers.

use super::client_side::{self, ClientSide};
use super::origin_side::{self, OriginSide};
use super::relaying::Relaying;
use crate::machine::{Cx, Fault, Input, Machine};
use crate::time::Time;
use alloc::boxed::Box;

/// One client's session.
#[derive(Debug)]
pub struct RtmpSession {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The client is talking with the proxy.
    Client(Box<ClientSide>),
    /// The stream is known; the origin is being found and spoken to.
    Origin(Box<OriginSide>),
    /// Both sides talk with each other.
    Relay(Box<Relaying>),
    /// Nothing is left to do.
    Over,
}

impl RtmpSession {
    /// A session for a client that connected just now.
    pub fn new(now: Time) -> Self {
        Self { phase: Phase::Client(Box::new(ClientSide::new(now))) }
    }
}

impl Machine for RtmpSession {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let used = match &mut self.phase {
            Phase::Client(client) => {
                let (used, next) = client.handle(cx, input)?;
                match next {
                    client_side::Next::Stay => {}
                    client_side::Next::Asked(asked) => {
                        self.phase = Phase::Origin(Box::new(OriginSide::ask(cx, *asked)));
                    }
                    client_side::Next::Over => self.phase = Phase::Over,
                }
                used
            }
            Phase::Origin(origin) => {
                let (used, next) = origin.handle(cx, input)?;
                match next {
                    origin_side::Next::Stay => {}
                    origin_side::Next::Relay(relaying) => self.phase = Phase::Relay(relaying),
                    origin_side::Next::Over => self.phase = Phase::Over,
                }
                used
            }
            Phase::Relay(relaying) => {
                let (used, goes_on) = relaying.handle(cx, &input)?;
                if !goes_on {
                    self.phase = Phase::Over;
                }
                used
            }
            Phase::Over => 0,
        };
        Ok(used)
    }

    fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Client(client) => Some(client.deadline()),
            Phase::Origin(origin) => Some(origin.deadline()),
            Phase::Relay(relaying) => relaying.deadline(),
            Phase::Over => None,
        }
    }
}
