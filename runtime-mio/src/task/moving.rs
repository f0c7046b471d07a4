//! Brings bytes in: to the machine, or untouched to where it has spliced them. One leg at a time, with a budget.

use super::{Io, Link, Pending, Slot, Task};
use crate::source::{Got, HEAVY, Source};
use bytes::Bytes;
use srs_proxy_core::machine::{Fault, Input, Leg};

/// The read buffer all sessions of a worker share, in bytes.
pub(crate) const BUFFER: usize = 64 * 1024;

/// Above this, in bytes, what waits for a leg stops the reading of the legs that feed it.
const HIGH_WATER: usize = 256 * 1024;

/// Bytes one leg may bring in before the others have their turn.
const READ_BUDGET: usize = 1024 * 1024;

impl Task {
    /// Of legs that may have waited for another one. Those of a hub wait for none.
    pub(super) fn pump_all(&mut self, io: &mut Io) {
        if !self.legs.has_streams() {
            return;
        }
        for slot in self.legs.numbers() {
            self.pump(io, slot);
        }
    }

    pub(super) fn pump_others(&mut self, io: &mut Io, except: u32) {
        for slot in self.legs.numbers().filter(|slot| *slot != except) {
            self.pump(io, slot);
        }
    }

    /// Reads from one leg until there is nothing, the way on is blocked, or the budget is used up.
    pub(super) fn pump(&mut self, io: &mut Io, slot: u32) {
        self.tell_hang_up(io, slot);
        let mut budget = READ_BUDGET;
        loop {
            match self.pull(io, slot) {
                0 => return,
                moved => budget = budget.saturating_sub(moved),
            }
            if budget == 0 {
                io.ready.push_back((self.id, slot));
                return;
            }
        }
    }

    /// Tells the machine of a peer that is gone even where its bytes are not read now.
    fn tell_hang_up(&mut self, io: &mut Io, slot: u32) {
        let Some(Slot { generation, link: Link::Tcp(tcp), .. }) = self.legs.slot(slot) else { return };
        if tcp.hung_up && !std::mem::replace(&mut tcp.hang_up_told, true) {
            io.pending.push_back(Pending::HungUp(Leg::new(slot, *generation)));
            self.settle(io);
        }
    }

    /// Reads once; how much, 0 to stop.
    fn pull(&mut self, io: &mut Io, slot: u32) -> usize {
        let Some(entry) = self.legs.slot(slot) else { return 0 };
        let leg = Leg::new(slot, entry.generation);
        match &mut entry.link {
            Link::Udp(udp) if udp.readable => self.pull_datagrams(io, leg),
            Link::Tcp(tcp) if tcp.paused || tcp.connecting || tcp.ended || !(tcp.readable || tcp.offer) => 0,
            Link::Tcp(tcp) => match tcp.splice {
                Some(splice) => self.pull_through(io, leg, splice.to),
                None => self.pull_stream(io, leg),
            },
            Link::File(file) => file.goes_to().map_or(0, |to| self.pull_through(io, leg, to)),
            Link::Udp(_) => 0,
        }
    }

    fn pull_stream(&mut self, io: &mut Io, leg: Leg) -> usize {
        // Its own, too: a client that asks on and on and never reads the answers is not read either.
        if self.legs.streams().any(|(_, tcp)| tcp.outbox.len() > HIGH_WATER) {
            return 0;
        }
        let Some(tcp) = self.legs.tcp(leg) else { return 0 };
        if std::mem::take(&mut tcp.offer) && !tcp.kept.is_empty() {
            // First what is there: its end may be known already, but must not overtake it.
            let kept = std::mem::take(&mut tcp.kept);
            self.step(io, Input::Stream { leg, bytes: &kept }, &kept, |rest| kept.slice_ref(rest));
            self.settle(io);
            return kept.len();
        }
        let mut buffer = std::mem::take(&mut io.buffer);
        let moved = self.pull_into(io, leg, &mut buffer);
        io.buffer = buffer;
        self.settle(io);
        moved
    }

    fn pull_into(&mut self, io: &mut Io, leg: Leg, buffer: &mut [u8]) -> usize {
        let Some(tcp) = self.legs.tcp(leg).filter(|tcp| tcp.readable) else { return 0 };
        let kept = tcp.kept.len();
        let Some((old, new)) = buffer.split_at_mut_checked(kept).filter(|(_, new)| !new.is_empty()) else {
            self.fail(io, Fault::Proxy("a machine needs more than a buffer at once"));
            return 0;
        };
        old.copy_from_slice(&tcp.kept);
        match tcp.read(new) {
            Got::Nothing | Got::Refused => 0,
            got @ (Got::End | Got::Broken) => {
                tcp.ended = true;
                io.pending.push_back(Pending::Eof(leg, got == Got::Broken));
                1
            }
            Got::Bytes(fresh) => {
                tcp.kept = Bytes::new();
                self.active = io.now;
                let bytes = buffer.get(..kept + fresh).unwrap_or_default();
                self.step(io, Input::Stream { leg, bytes }, bytes, Bytes::copy_from_slice);
                fresh
            }
        }
    }

    /// Moves bytes on, once.
    fn pull_through(&mut self, io: &mut Io, leg: Leg, to: Leg) -> usize {
        let Some((source, target)) = self.legs.pair(leg, to) else { return 0 };
        if !target.outbox.is_empty() {
            return 0;
        }
        let left = source.left();
        let pipe = if source.is_heavy() && left >= HEAVY { io.pipes.take().ok() } else { None };
        let got = match pipe {
            Some(mut pipe) => {
                let got = source.read_into(&mut pipe, left);
                match got {
                    Got::Bytes(_) => target.send_pipe(pipe, &mut io.pipes, io.now),
                    Got::Nothing | Got::End | Got::Broken | Got::Refused => io.pipes.put(pipe),
                }
                got
            }
            None => {
                let room = left.min(io.buffer.len());
                let buffer = io.buffer.get_mut(..room).unwrap_or_default();
                let got = source.read(buffer);
                if let Got::Bytes(n) = got {
                    target.send(&[buffer.get(..n).unwrap_or_default()], io.now);
                }
                got
            }
        };
        let moved = match got {
            Got::Bytes(n) => {
                if source.moved_on(n) {
                    io.pending.push_back(Pending::Spliced(leg));
                }
                n
            }
            Got::Nothing => return 0,
            // It is read, the next time.
            Got::Refused => return 1,
            Got::End | Got::Broken => {
                source.end();
                io.pending.push_back(Pending::Eof(leg, got == Got::Broken));
                1
            }
        };
        self.sent(io, to.slot);
        self.active = io.now;
        self.settle(io);
        moved
    }
}
