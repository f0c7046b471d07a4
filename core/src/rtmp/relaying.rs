//! The RTMP session once its origin has answered: both sides talk with each other, and the driver moves their bytes
//! wherever no header needs rewriting.

use super::chunk::ChunkError;
use super::relay::Relay;
use crate::machine::{Action, Actions, Close, Cx, Fault, Input, Leg};
use crate::time::Time;
use crate::usage::Usage;
use alloc::boxed::Box;

/// What the relay phase still has to know.
#[derive(Debug)]
pub(super) struct Relaying {
    /// What the load balancer is told of it; nothing, if the origin refused.
    pub(super) usage: Option<Usage>,
    pub(super) origin: Leg,
    /// Client to origin, if it can't be spliced.
    pub(super) up: Option<Box<Relay>>,
    /// Origin to client, if it can't be spliced yet.
    pub(super) down: Option<Box<Relay>>,
}

impl Relaying {
    /// When to tell the load balancer again.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.usage.as_ref().map(Usage::next)
    }

    /// Takes an input: how much of its bytes, and whether the session goes on.
    pub(super) fn handle(&mut self, cx: &mut Cx<'_>, input: &Input<'_>) -> Result<(usize, bool), Fault> {
        match *input {
            Input::Stream { leg, bytes } => return Ok((self.bytes(cx, leg, bytes, 0)?, true)),
            Input::Eof { .. } => {
                self.end(cx);
                cx.actions.close(self.origin, Close::Flush);
                cx.actions.close(Leg::CLIENT, Close::Flush);
                return Ok((0, false));
            }
            Input::Tick => self.usage.iter_mut().for_each(|usage| usage.tell(cx)),
            Input::Stop => self.end(cx),
            _ => {}
        }
        Ok((0, true))
    }

    /// Relays what came from a leg, from `bytes[at..]`.
    pub(super) fn bytes(
        &mut self,
        cx: &mut Cx<'_>,
        from: Leg,
        bytes: &[u8],
        at: usize,
    ) -> Result<usize, Fault> {
        let (relay, to, blame): (_, _, fn(_) -> _) = if from == Leg::CLIENT {
            (&mut self.up, self.origin, Fault::Client)
        } else {
            (&mut self.down, Leg::CLIENT, Fault::Origin)
        };
        let used = run(relay, cx.actions, from, to, bytes, at).map_err(blame);
        if used.is_err() {
            self.end(cx);
        }
        used
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(usage) = self.usage.take() {
            usage.end(cx);
        }
    }
}

/// Relays one direction from `bytes[start..]`, and splices it once nothing needs rewriting.
pub(super) fn run(
    relay: &mut Option<Box<Relay>>,
    actions: &mut Actions,
    from: Leg,
    to: Leg,
    bytes: &[u8],
    start: usize,
) -> Result<usize, &'static str> {
    let Some(running) = relay else { return Ok(start) };
    let used = if running.is_transparent() {
        start
    } else {
        running.run(bytes, start, actions).map_err(ChunkError::as_str)?
    };
    if running.is_transparent() {
        *relay = None;
        actions.push(Action::Splice { from, to, limit: None });
    }
    Ok(used)
}
