//! One TCP leg: its socket, what is known of its readiness, and what waits on either side of it.

use crate::outbox::{Outbox, Pipe, Pipes};
use crate::pool;
use crate::source::{Got, HEAVY, Source};
use bytes::Bytes;
use mio::net::TcpStream;
use srs_proxy_core::machine::Leg;
use srs_proxy_core::time::{Duration, Time};
use std::io::{self, Read};
use std::net::SocketAddr;

/// A direction whose bytes the machine does not want to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    /// Where they go.
    pub(crate) to: Leg,
    /// So many, then the machine has its turn again; never 0. Without a limit, more than a connection can bring.
    pub(crate) left: u64,
}

#[derive(Debug)]
pub(crate) struct TcpLeg {
    pub(crate) stream: TcpStream,
    /// Whom it was opened to; nobody, if it was accepted.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) connecting: bool,
    /// The kernel makes an event of room to send. It need not before there was none.
    pub(crate) watches_room: bool,
    /// There may be something to read.
    pub(crate) readable: bool,
    /// The peer has ended its side, so that a short read says nothing about what is left.
    pub(crate) hung_up: bool,
    /// The machine knows.
    pub(crate) hang_up_told: bool,
    /// No more input: the end was reported.
    pub(crate) ended: bool,
    /// The machine wants no input now.
    pub(crate) paused: bool,
    /// What the machine did not consume shall be offered again at once.
    pub(crate) offer: bool,
    /// What the machine did not consume.
    pub(crate) kept: Bytes,
    pub(crate) splice: Option<Splice>,
    /// Whether the last wake-up, or this one so far, moved so much that the kernel should do it.
    heavy: bool,
    /// The kernel does not want to.
    unspliceable: bool,
    /// Bytes moved since the last time the socket was found empty.
    moved: usize,
    pub(crate) outbox: Outbox,
    /// The peer takes nothing any more. What it sent before can still be read.
    pub(crate) broken: bool,
    /// Since when the peer has taken nothing of what waits.
    pub(crate) stalled: Option<Time>,
    /// Bytes received.
    pub(crate) received: u64,
}

impl TcpLeg {
    /// One that was accepted.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        Self::new(stream, None, false)
    }

    /// One that begins to connect to `peer`.
    pub(crate) fn connecting(stream: TcpStream, peer: SocketAddr) -> Self {
        Self::new(stream, Some(peer), true)
    }

    /// One to `peer` that was kept.
    pub(crate) fn reused(stream: TcpStream, peer: SocketAddr) -> Self {
        Self::new(stream, Some(peer), false)
    }

    fn new(stream: TcpStream, peer: Option<SocketAddr>, connecting: bool) -> Self {
        Self {
            stream,
            peer,
            connecting,
            // Of one that connects it is how that is told.
            watches_room: connecting,
            readable: false,
            hung_up: false,
            hang_up_told: false,
            ended: false,
            paused: false,
            offer: false,
            kept: Bytes::new(),
            splice: None,
            heavy: false,
            unspliceable: false,
            moved: 0,
            outbox: Outbox::default(),
            broken: false,
            stalled: None,
            received: 0,
        }
    }

    /// Whether nothing is unread, unsent, or ended: another session could go on from here.
    pub(crate) fn is_clean(&self) -> bool {
        let moving = self.splice.is_some() || !self.kept.is_empty() || !self.outbox.is_empty();
        let over = self.ended || self.hung_up || self.broken;
        !self.connecting && !moving && !over && (!self.readable || pool::is_silent(&self.stream))
    }

    /// Whether something waits for room of which no event would tell.
    pub(crate) fn lacks_watch(&self) -> bool {
        !self.watches_room && !self.outbox.is_empty()
    }

    /// Whether the peer has taken nothing of what waits for so long.
    pub(crate) fn is_stalled(&self, patience: Duration, now: Time) -> bool {
        self.stalled.is_some_and(|since| now.since(since) >= patience)
    }

    fn empty(&mut self) {
        self.readable = false;
        self.heavy = self.moved >= HEAVY;
        self.moved = 0;
    }

    /// Sends the pieces or lets them wait.
    pub(crate) fn send(&mut self, pieces: &[&[u8]], now: Time) {
        if !self.broken {
            let sent = self.outbox.send(&mut self.stream, pieces);
            self.watch(sent.map(|()| false), now);
        }
    }

    /// Sends what is in the pipe or lets it wait.
    pub(crate) fn send_pipe(&mut self, pipe: Pipe, pipes: &mut Pipes, now: Time) {
        if !self.broken {
            let sent = self.outbox.send_pipe(&self.stream, pipe, pipes);
            self.watch(sent.map(|()| false), now);
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, pipes: &mut Pipes, now: Time) {
        if !self.outbox.is_empty() {
            let progress = self.outbox.flush(&self.stream, pipes);
            self.watch(progress, now);
        }
    }

    fn watch(&mut self, progress: io::Result<bool>, now: Time) {
        match progress {
            Ok(_) if self.outbox.is_empty() => self.stalled = None,
            Ok(progress) => {
                if progress || self.stalled.is_none() {
                    self.stalled = Some(now);
                }
            }
            Err(_) => {
                // Reading on finds what is left of the input, and then the end.
                self.broken = true;
                self.readable = true;
                self.hung_up = true;
                self.outbox = Outbox::default();
                self.stalled = None;
            }
        }
    }
}

impl Source for TcpLeg {
    fn left(&self) -> usize {
        self.splice.map_or(0, |splice| usize::try_from(splice.left).unwrap_or(usize::MAX))
    }

    fn is_heavy(&self) -> bool {
        self.heavy && !self.unspliceable
    }

    fn read(&mut self, buffer: &mut [u8]) -> Got {
        loop {
            match self.stream.read(buffer) {
                // An error that a write was told of is told only once.
                Ok(0) => return if self.broken { Got::Broken } else { Got::End },
                Ok(n) => {
                    self.received += n as u64;
                    self.moved += n;
                    if n < buffer.len() && !self.hung_up {
                        // The socket gave less than it could: it is empty, and an event will say when it is not.
                        self.empty();
                    } else {
                        self.heavy |= self.moved >= HEAVY;
                    }
                    return Got::Bytes(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty();
                    return Got::Nothing;
                }
                Err(_) => return Got::Broken,
            }
        }
    }

    fn read_into(&mut self, pipe: &mut Pipe, limit: usize) -> Got {
        match pipe.fill(&self.stream, None, limit) {
            Ok(0) if self.broken => Got::Broken,
            Ok(0) => Got::End,
            Ok(n) => {
                self.received += n as u64;
                self.moved += n;
                Got::Bytes(n)
            }
            Err(error) => {
                let got = Got::instead_of_a_pipe(error);
                match got {
                    Got::Nothing => self.empty(),
                    Got::Refused => self.unspliceable = true,
                    _ => {}
                }
                got
            }
        }
    }

    fn moved_on(&mut self, moved: usize) -> bool {
        let Some(splice) = &mut self.splice else { return false };
        splice.left = splice.left.saturating_sub(moved as u64);
        let done = splice.left == 0;
        if done {
            // The rest is the machine's.
            self.splice = None;
            self.offer = !self.kept.is_empty();
        }
        done
    }

    fn end(&mut self) {
        self.ended = true;
    }
}
