//! Brings datagrams in, a batch at a time, and sends what follows from the batch at its end.

use super::{Io, Link, Pending, Place, Slot, Task};
use crate::batch::{Batch, Piece};
use crate::timers::TaskId;
use crate::worker::leg_token;
use bytes::Bytes;
use mio::{Interest, Registry};
use srs_proxy_core::machine::{Cx, Input, Leg};
use srs_proxy_core::time::Duration;
use std::net::SocketAddr;
use std::ops::Range;

/// What a datagram is counted as at least, in bytes, against the budget of its leg: what it costs does not depend on
/// its size.
const DATAGRAM_COST: usize = 2048;

/// The observer is told of lost datagrams no more often than this.
const TELL_LOST: Duration = Duration::from_secs(1);

impl Task {
    /// Receives a batch and hands it over; what it cost of the budget, 0 to stop.
    pub(super) fn pull_datagrams(&mut self, io: &mut Io, leg: Leg) -> usize {
        let Some(Slot { link: Link::Udp(udp), .. }) = self.legs.slot(leg.slot) else { return 0 };
        let lost = &mut self.losses.get_or_insert_default().sum;
        let unreachable = lost.unreachable;
        let (messages, errors) = io.batch.receive(udp, lost);
        // Of the listening socket it says nothing: which of all peers is not there is not known.
        let is_gone = leg.slot > 0 && lost.unreachable > unreachable;
        let (mut cost, mut bytes) = (errors * DATAGRAM_COST, 0);
        io.batch.open = true;
        for index in 0..messages {
            let Some(message) = io.batch.message(index) else { break };
            for datagram in message.datagrams() {
                bytes += datagram.len();
                cost += datagram.len().max(DATAGRAM_COST);
                self.step_datagram(io, leg, message.from, datagram);
                self.settle(io);
                if self.is_over() {
                    break;
                }
            }
        }
        io.batch.open = false;
        self.end_runs(io);
        if is_gone {
            io.pending.push_back(Pending::Eof(leg, false));
            self.settle(io);
        }
        *(if leg.slot == 0 { &mut self.received } else { &mut self.from_origin }) += bytes as u64;
        cost
    }

    /// Feeds the machine one datagram of the batch.
    fn step_datagram(&mut self, io: &mut Io, leg: Leg, from: SocketAddr, datagram: Range<usize>) {
        let mut actions = std::mem::take(&mut io.actions);
        let mut cx = Cx { now: io.now, rng: &mut io.rng, actions: &mut actions };
        let bytes = io.batch.buffer.get(datagram.clone()).unwrap_or_default();
        let outcome = self.machine.handle(&mut cx, Input::Datagram { leg, from, bytes });
        self.execute(io, &mut actions, &Place::Batch(datagram));
        io.actions = actions;
        if let Err(fault) = outcome {
            self.fail(io, fault);
        }
    }

    /// Adds a datagram to what is sent next.
    pub(super) fn add_datagram(&mut self, io: &mut Io, to: Leg, peer: Option<SocketAddr>, piece: Piece) {
        if let Some(Slot { link: Link::Udp(udp), .. }) = self.legs.get(to) {
            io.batch.add(to, udp, peer, piece);
        }
    }

    /// Sends what has been collected.
    pub(super) fn end_runs(&mut self, io: &mut Io) {
        let Io { batch: Batch { runs, buffer, .. }, registry, .. } = io;
        if runs.is_empty() {
            return;
        }
        let lost = &mut self.losses.get_or_insert_default().sum;
        for run in runs.drain(..) {
            if let Some(Slot { stamp, link: Link::Udp(udp), .. }) = self.legs.get(run.leg) {
                let was_blocked = udp.is_blocked();
                udp.send_run(&run, buffer, lost);
                if udp.is_blocked() != was_blocked {
                    watch(registry, &mut udp.socket, self.id, run.leg.slot, *stamp, true);
                }
            }
        }
    }

    /// There is room in a leg's socket: sends what waits.
    pub(super) fn flush_datagrams(&mut self, io: &Io, slot: u32) {
        if let Some(Slot { stamp, link: Link::Udp(udp), .. }) = self.legs.slot(slot)
            && udp.is_blocked()
        {
            udp.flush(&mut self.losses.get_or_insert_default().sum);
            if !udp.is_blocked() {
                watch(&io.registry, &mut udp.socket, self.id, slot, *stamp, false);
            }
        }
    }

    /// Tells the observer of datagrams that were lost, from time to time.
    pub(super) fn tell_lost(&mut self, io: &Io) {
        let Some(losses) = &mut self.losses else { return };
        if losses.sum != losses.told && io.now.since(losses.at) >= TELL_LOST {
            io.observer.lost(self.session, &(losses.sum - losses.told));
            (losses.told, losses.at) = (losses.sum, io.now);
        }
    }
}

/// Makes events of the room in a socket, too, or no longer.
fn watch(
    registry: &Registry,
    socket: &mut mio::net::UdpSocket,
    task: TaskId,
    slot: u32,
    stamp: u16,
    room: bool,
) {
    let interest = if room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    // It fails if the system has no memory; what waits then goes with the next datagram.
    let _ = registry.reregister(socket, leg_token(task, slot, stamp), interest);
}

impl Place<'_> {
    /// A part of the input, for a datagram.
    pub(super) fn datagram(&self, part: Range<usize>) -> Piece {
        match self {
            Self::Here(input) => Piece::Bytes(Bytes::copy_from_slice(input.get(part).unwrap_or_default())),
            Self::Batch(input) => Piece::Range(within(input, &part)),
        }
    }

    /// A part of the input, for a stream.
    pub(super) fn stream(&self, io: &Io, part: Range<usize>) -> Piece {
        match self {
            Self::Here(_) => Piece::Range(part),
            Self::Batch(input) => {
                let bytes = io.batch.buffer.get(within(input, &part)).unwrap_or_default();
                Piece::Bytes(Bytes::copy_from_slice(bytes))
            }
        }
    }
}

/// Where a part of the input is in the batch's buffer; nothing, if it is not within the input.
fn within(input: &Range<usize>, part: &Range<usize>) -> Range<usize> {
    let (start, end) = (input.start + part.start, input.start + part.end);
    if start <= end && end <= input.end { start..end } else { input.start..input.start }
}
