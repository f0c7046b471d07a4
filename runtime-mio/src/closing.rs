//! Connections that are over for their machine but not for the peer: what waits is delivered first, and the
//! peer gets a moment to read it before the descriptor is closed. Closing at once with unread input would
//! reset the connection and take the last words back.

use crate::budget::Held;
use crate::outbox::Pipes;
use crate::source::{Got, Source};
use crate::tcp::TcpLeg;
use srs_proxy_core::time::{Duration, Time};
use std::net::Shutdown;

/// For the peer to close its side after ours is closed.
const LINGER: Duration = Duration::from_secs(2);

/// For a slow peer to take some of what waits.
const FLUSH: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Closing {
    leg: TcpLeg,
    shut: bool,
    deadline: Time,
    _held: Held,
}

impl Closing {
    pub(crate) fn new(leg: TcpLeg, now: Time, held: Held) -> Self {
        Self { leg, shut: false, deadline: now + FLUSH, _held: held }
    }

    pub(crate) fn source(&mut self) -> &mut mio::net::TcpStream {
        &mut self.leg.stream
    }

    /// Whether it is finished or has had its time. The kernel may not have told yet that the peer takes something.
    pub(crate) fn is_over(&mut self, pipes: &mut Pipes, now: Time) -> bool {
        if self.deadline > now {
            return false;
        }
        let finished = self.shut || self.advance(false, pipes, &mut [], now);
        finished || self.deadline <= now
    }

    /// Goes on as far as the socket lets it; whether it is finished.
    pub(crate) fn advance(
        &mut self,
        readable: bool,
        pipes: &mut Pipes,
        scratch: &mut [u8],
        now: Time,
    ) -> bool {
        if !self.shut {
            let waiting = self.leg.outbox.len();
            self.leg.flush(pipes, now);
            if self.leg.outbox.len() < waiting {
                self.deadline = now + FLUSH;
            }
            if self.leg.broken {
                return true;
            }
            if !self.leg.outbox.is_empty() {
                return false;
            }
            if self.leg.ended || self.leg.stream.shutdown(Shutdown::Write).is_err() {
                return true;
            }
            self.shut = true;
            self.deadline = now + LINGER;
        }
        if !readable {
            return false;
        }
        // A peer that keeps sending is not waited for: a few reads, then the deadline.
        for _ in 0..8 {
            match self.leg.read(scratch) {
                Got::End | Got::Broken => return true,
                Got::Nothing | Got::Refused => return false,
                Got::Bytes(_) => {}
            }
        }
        false
    }
}
