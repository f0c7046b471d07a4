//! Datagrams that were received at once, and what is to be sent of them. Knows no task.
//!
//! ```text
//!   socket ── recv, or GRO ──▶ buffer:  | datagram … datagram |  | datagram |  | …   one slot a message
//!                                            │          │             │
//!   machine, one datagram at a time ─────────┴──────────┴─────────────┘
//!      │ Forward, Write
//!      ▼
//!   runs: equal datagrams to one leg and peer, as ranges of the buffer ── GSO ──▶ sockets
//! ```
//!
//! Runs go out in the order in which they were begun, before the buffer is filled again. Only the last run of a leg
//! grows, so no datagram overtakes another to the same peer.

use crate::address::canonical;
use crate::runtime::Lost;
use crate::udp::{Pending, UdpLeg};
use bytes::Bytes;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use smallvec::SmallVec;
use srs_proxy_core::machine::Leg;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;

/// Messages received at once. Each may be many datagrams.
const SLOTS: usize = 16;

/// What the kernel hands over as one message at most, in bytes.
const SLOT: usize = 64 * 1024;

/// From one slot to the next, in bytes: a little more than a slot, so that the first lines of all slots, which single
/// datagrams fill, are not in competition for the same places in the processor's caches.
const STRIDE: usize = SLOT + 1216;

/// Datagrams the kernel takes in one send (`UDP_MAX_SEGMENTS` of the oldest kernels that have it).
const MAX_SEGMENTS: usize = 64;

/// Bytes it takes in one send: what IPv4's length field leaves.
const MAX_RUN: usize = 65_507;

/// Errors of one socket that are passed over before others have their turn.
const MAX_ERRORS: usize = 16;

/// An error says nothing of what else there is to receive.
fn pass_over(error: &io::Error, lost: &mut Lost) {
    lost.unreachable += u64::from(Pending::of(error) == Some(Pending::Unreachable));
}

/// A part of what is sent to one leg.
#[derive(Debug)]
pub(crate) enum Piece {
    Range(Range<usize>),
    Bytes(Bytes),
}

impl Piece {
    pub(crate) fn get<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(range) => input.get(range.clone()).unwrap_or_default(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// Datagrams to one peer that may be sent at once: all of one size but the last, which may be shorter.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) leg: Leg,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) size: usize,
    pub(crate) count: usize,
    /// Each of one datagram, or of several without a gap.
    pub(crate) pieces: SmallVec<[Piece; 4]>,
    bytes: usize,
}

impl Run {
    /// Whether a datagram of this length can be the next one.
    fn takes(&self, length: usize) -> bool {
        // Whole so far, that is: after a shorter one there is no other.
        self.bytes == self.size * self.count
            && (1..=self.size).contains(&length)
            && self.count < MAX_SEGMENTS
            && self.bytes + length <= MAX_RUN
    }

    fn add(&mut self, piece: Piece) {
        self.count += 1;
        self.bytes += piece.len();
        if let Piece::Range(new) = &piece
            && let Some(Piece::Range(last)) = self.pieces.last_mut()
            && last.end == new.start
        {
            last.end = new.end;
        } else {
            self.pieces.push(piece);
        }
    }
}

/// One message: datagrams of one peer, all of one size but the last.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: SocketAddr,
    range: Range<usize>,
    stride: usize,
}

impl Message {
    /// Where its datagrams are in the buffer.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.range;
        // An empty message is one empty datagram.
        let (stride, last) = (self.stride.max(1), end.max(start + 1));
        (start..last).step_by(stride).map(move |at| at..end.min(at + stride))
    }
}

/// What one worker's datagrams are received into, and the runs that follow from them.
pub(crate) struct Batch {
    pub(crate) buffer: Box<[u8]>,
    meta: Box<[RecvMeta]>,
    receiver: UdpSocketState,
    /// The kernel cuts one large send into datagrams.
    pub(crate) segments: bool,
    pub(crate) runs: Vec<Run>,
    /// What machines send is collected.
    pub(crate) open: bool,
}

impl Batch {
    pub(crate) fn new() -> io::Result<Self> {
        // Only its way of receiving is used, of any socket. The options it sets, of use to QUIC, go to one that is
        // closed at once.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let receiver = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            // The system gives the pages as they are used.
            buffer: vec![0; SLOTS * STRIDE].into_boxed_slice(),
            meta: vec![RecvMeta::default(); SLOTS].into_boxed_slice(),
            receiver,
            // One that does not know it would pass it over and send it all as one.
            segments: setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok(),
            runs: Vec::new(),
            open: false,
        })
    }

    /// Receives messages; how many, and how many errors were passed over: neither, if there is nothing now.
    pub(crate) fn receive(&mut self, udp: &mut UdpLeg, lost: &mut Lost) -> (usize, usize) {
        if udp.coalesces() {
            return self.receive_coalesced(udp, lost);
        }
        let (mut got, mut errors, mut alike) = (0, 0, 0);
        let mut last = None;
        while let (Some(slot), Some(meta)) =
            (self.buffer.get_mut(got * STRIDE..got * STRIDE + SLOT), self.meta.get_mut(got))
        {
            match udp.receive(slot) {
                Ok((len, addr)) => {
                    (meta.addr, meta.len, meta.stride) = (addr, len, len);
                    alike += usize::from(last.replace((len, addr)) == Some((len, addr)));
                    got += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    udp.readable = false;
                    break;
                }
                Err(error) => {
                    pass_over(&error, lost);
                    errors += 1;
                    if errors == MAX_ERRORS {
                        break;
                    }
                }
            }
        }
        udp.saw(alike);
        (got, errors)
    }

    /// The same, when a message may be several datagrams.
    fn receive_coalesced(&mut self, udp: &mut UdpLeg, lost: &mut Lost) -> (usize, usize) {
        let mut slots: SmallVec<[IoSliceMut<'_>; SLOTS]> = self
            .buffer
            .chunks_exact_mut(STRIDE)
            .filter_map(|slot| slot.get_mut(..SLOT))
            .map(IoSliceMut::new)
            .collect();
        for errors in 0..MAX_ERRORS {
            match self.receiver.recv(UdpSockRef::from(&udp.socket), &mut slots, &mut self.meta) {
                Ok(got) => {
                    // Fewer than asked for are all there were, and an event tells of the next.
                    udp.readable = got == slots.len();
                    return (got, errors);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    udp.readable = false;
                    return (0, errors);
                }
                Err(error) => pass_over(&error, lost),
            }
        }
        (0, MAX_ERRORS)
    }

    /// A message of those that were received last.
    pub(crate) fn message(&self, index: usize) -> Option<Message> {
        let meta = self.meta.get(index)?;
        let from = canonical(meta.addr);
        let start = index * STRIDE;
        Some(Message { from, range: start..start + meta.len, stride: meta.stride })
    }

    /// Adds a datagram to what is sent when the batch ends.
    pub(crate) fn add(&mut self, leg: Leg, udp: &mut UdpLeg, peer: Option<SocketAddr>, piece: Piece) {
        let length = piece.len();
        if let Some(run) = self.runs.get_mut(udp.run)
            && (run.leg, run.peer) == (leg, peer)
            && run.takes(length)
        {
            run.add(piece);
            return;
        }
        udp.run = self.runs.len();
        let mut run = Run { leg, peer, size: length, count: 0, pieces: SmallVec::new(), bytes: 0 };
        run.add(piece);
        self.runs.push(run);
    }
}
