//! Who stands around a simulated SRT hub: callers that send again what is not answered and begin anew, origins that accept,
//! reject, end connections, freeze and die, and forgers without the right cookie. Each asserts that it gets nothing that is another's.

use crate::sim::{Io, Peer};
use crate::srt::wire::{self, CONCLUSION, Handshake, INDUCTION};
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// How often a caller sends a handshake again.
const AGAIN: Duration = Duration::from_millis(250);

/// How long it waits for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Socket ids that an origin uses; each the same ones, so that some are told an alias, which is hardly ever so low.
const IDS: u32 = 1000;

/// How long an origin is frozen: longer than a caller waits.
const FROST: Duration = Duration::from_secs(4);

/// What came of it all.
#[derive(Default, Debug)]
pub struct Book {
    /// Connections, as callers see them.
    pub connected: u64,
    /// Connections, as origins see them.
    pub accepted: u64,
    /// Data that origins got.
    pub sent: u64,
    /// Data that came back to their caller.
    pub echoed: u64,
    /// Rejections that callers heard.
    pub rejected: BTreeMap<u32, u64>,
    /// Callers that heard nothing.
    pub forsaken: u64,
    /// Connections whose socket id is an alias.
    pub aliased: u64,
    /// Connections that the origin has ended.
    pub ended: u64,
    /// Connections that the origin was told the end of.
    pub closed: u64,
    /// Connections that their caller was told the end of.
    pub hung_up: u64,
    /// Callers that began anew with the same socket id.
    pub reborn: u64,
    /// Callers that vanished without a word.
    pub vanished: u64,
}

/// Everybody has a look at it.
pub type Shared = Rc<RefCell<Book>>;

/// What a caller intends to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Data it sends.
    pub data: u32,
    /// Between two of them, at most.
    pub pause: Duration,
    /// It begins within this time.
    pub begin: Duration,
    /// With each of its data it may be started again, per thousand: without a word, with the same socket id.
    pub births: u64,
}

/// After so long at most it is there again; some time after all that it sent before has arrived.
const BIRTH: RangeInclusive<u64> = 100_000..=4_000_000;

/// One caller's connections, all from one address.
pub struct Caller {
    book: Shared,
    hub: SocketAddr,
    plan: Plan,
    /// By its own socket ids.
    sockets: BTreeMap<u32, Socket>,
}

struct Socket {
    stream: String,
    begun: Option<Time>,
    /// The number of its first packet.
    sequence: u32,
    cookie: Option<u32>,
    /// The id it was told.
    theirs: Option<u32>,
    left: u32,
    over: bool,
}

impl Caller {
    /// A caller of one connection for each stream id.
    pub fn new(book: &Shared, hub: SocketAddr, plan: Plan, first: u32, streams: &[String]) -> Self {
        let socket = |stream: &String| Socket {
            stream: stream.clone(),
            begun: None,
            sequence: 0,
            cookie: None,
            theirs: None,
            left: plan.data,
            over: false,
        };
        let sockets = (first..).zip(streams.iter().map(socket)).collect();
        Self { book: Rc::clone(book), hub, plan, sockets }
    }

    fn act(&mut self, io: &mut Io<'_>, own: u32) -> Option<Duration> {
        let socket = self.sockets.get_mut(&own)?;
        if socket.over {
            return None;
        }
        let Some(theirs) = socket.theirs else {
            let begun = *socket.begun.get_or_insert_with(|| {
                socket.sequence = io.dice.range(0..=0x7fff_ffff) as u32;
                io.now
            });
            if io.now.since(begun) >= PATIENCE {
                socket.over = true;
                self.book.borrow_mut().forsaken += 1;
                return None;
            }
            io.send(self.hub, socket.handshake(own).bytes());
            return Some(AGAIN);
        };
        if io.dice.chance(self.plan.births) {
            (socket.begun, socket.cookie, socket.theirs) = (None, None, None);
            self.book.borrow_mut().reborn += 1;
            return Some(Duration::from_micros(io.dice.range(BIRTH)));
        }
        if socket.left == 0 {
            socket.over = true;
            if io.dice.chance(300) {
                self.book.borrow_mut().vanished += 1;
            } else {
                io.send(self.hub, wire::shutdown(theirs));
            }
            return None;
        }
        socket.left -= 1;
        io.send(self.hub, wire::data(theirs, socket.left, own));
        Some(Duration::from_micros(io.dice.range(1..=self.plan.pause.as_micros() as u64)))
    }
}

impl Socket {
    /// What it says until it is connected.
    fn handshake(&self, own: u32) -> Handshake {
        let handshake = match self.cookie {
            None => Handshake::induction(own),
            Some(cookie) => Handshake::conclusion(own, cookie, self.stream.as_bytes()),
        };
        handshake.begun_with(self.sequence)
    }
}

impl Peer for Caller {
    fn start(&mut self, io: &mut Io<'_>) {
        for own in self.sockets.keys() {
            let after = Duration::from_micros(io.dice.range(0..=self.plan.begin.as_micros() as u64));
            io.wake(after, *own);
        }
    }

    fn timer(&mut self, io: &mut Io<'_>, own: u32) {
        if let Some(next) = self.act(io, own) {
            io.wake(next, own);
        }
    }

    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        assert_eq!(from, self.hub);
        let Some(handshake) = Handshake::read(bytes) else {
            let (first, to, payload) = wire::read(bytes).expect("a packet");
            let socket = self.sockets.get_mut(&to).expect("one of its own sockets");
            match first {
                0x8005_0000 => {
                    self.book.borrow_mut().hung_up += u64::from(!socket.over);
                    socket.over = true;
                }
                _ => {
                    assert_eq!(payload, to, "what it sent itself comes back, and nothing else");
                    self.book.borrow_mut().echoed += 1;
                }
            }
            return;
        };
        let socket = self.sockets.get_mut(&handshake.to).expect("one of its own sockets");
        assert_eq!(handshake.version, 5);
        if handshake.terms[0] != socket.sequence || socket.begun.is_none() {
            // For who it was before.
            return;
        }
        let is_waiting = socket.theirs.is_none() && !socket.over;
        match handshake.kind {
            INDUCTION => {
                assert_eq!((handshake.field, handshake.from), (0x4a17, handshake.to));
                // Another answer, to an induction that was sent again, is as good.
                if socket.cookie.replace(handshake.cookie).is_none() && is_waiting {
                    io.send(self.hub, socket.handshake(handshake.to).bytes());
                }
            }
            CONCLUSION => {
                let told = *socket.theirs.get_or_insert(handshake.from);
                assert_eq!(told, handshake.from, "one connection is enough");
                let mut book = self.book.borrow_mut();
                book.connected += u64::from(is_waiting);
                book.aliased += u64::from(is_waiting && told > IDS);
            }
            code => {
                assert!(socket.theirs.is_none(), "rejected when it was connected");
                if is_waiting {
                    *self.book.borrow_mut().rejected.entry(code).or_default() += 1;
                    socket.over = true;
                }
            }
        }
    }
}

/// An origin: sends back whatever it gets.
pub struct Origin {
    book: Shared,
    /// By who calls, and with which id: so many connections of one caller there shall be, one.
    sockets: BTreeMap<(SocketAddr, u32), u32>,
    refused: BTreeSet<(SocketAddr, u32)>,
    last: u32,
    /// It says no, or ends a connection, per thousand.
    moods: u64,
    dies: Option<Time>,
    /// At so many more conclusions it freezes, and is again there then: what it was sent meanwhile it hears late.
    freezes_at: Option<u32>,
    thaws: Time,
    unheard: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Origin {
    /// An origin whose ids are the same as every other's.
    pub fn new(book: &Shared, moods: u64, dies: Option<Time>) -> Self {
        let (sockets, refused) = (BTreeMap::new(), BTreeSet::new());
        let (thaws, unheard) = (Time::ZERO, VecDeque::new());
        let book = Rc::clone(book);
        Self { book, sockets, refused, last: 0, moods, dies, freezes_at: None, thaws, unheard }
    }

    /// The same, but with so many conclusions it freezes once.
    #[must_use]
    pub fn freezes_at(self, conclusions: Option<u32>) -> Self {
        Self { freezes_at: conclusions, ..self }
    }

    /// Whether it is frozen when this comes.
    fn is_frozen(&mut self, io: &mut Io<'_>, bytes: &[u8]) -> bool {
        if let Some(left) = &mut self.freezes_at
            && Handshake::read(bytes).is_some_and(|handshake| handshake.kind == CONCLUSION)
        {
            *left -= 1;
            if *left == 0 {
                self.freezes_at = None;
                self.thaws = io.now + FROST;
                io.wake(FROST, 0);
            }
        }
        io.now < self.thaws
    }
}

impl Peer for Origin {
    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        while let Some((from, bytes)) = self.unheard.pop_front() {
            self.datagram(io, from, &bytes);
        }
    }

    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        if self.dies.is_some_and(|dies| dies <= io.now) {
            return;
        }
        if self.is_frozen(io, bytes) {
            return self.unheard.push_back((from, bytes.to_vec()));
        }
        let Some(handshake) = Handshake::read(bytes) else {
            let (first, to, own) = wire::read(bytes).expect("a packet");
            let known = self.sockets.get(&(from, own)).copied();
            if first == 0x8005_0000 {
                let before = self.sockets.len();
                self.sockets.retain(|(address, _), theirs| *address != from || *theirs != to);
                self.book.borrow_mut().closed += (before - self.sockets.len()) as u64;
            } else if let Some(theirs) = known {
                assert_eq!(theirs, to, "it is for the socket that it was sent to");
                self.book.borrow_mut().sent += 1;
                if io.dice.chance(self.moods / 4) {
                    self.sockets.remove(&(from, own));
                    self.book.borrow_mut().ended += 1;
                    return io.send(from, wire::shutdown(own));
                }
                io.send(from, wire::data(own, first, own));
            }
            return;
        };
        let caller = (from, handshake.from);
        match handshake.kind {
            INDUCTION => {
                assert_eq!((handshake.version, handshake.field, handshake.cookie), (4, 2, 0));
                io.send(from, handshake.welcome(from.port().into()).bytes());
            }
            CONCLUSION => {
                assert_eq!(handshake.cookie, u32::from(from.port()), "its own cookie");
                assert!(!handshake.extensions.is_empty());
                if self.refused.contains(&caller) {
                    return io.send(from, handshake.refused(2403).bytes());
                }
                if !self.sockets.contains_key(&caller) {
                    if io.dice.chance(self.moods) {
                        self.refused.insert(caller);
                        return io.send(from, handshake.refused(2403).bytes());
                    }
                    self.last = self.last % IDS + 1;
                    self.book.borrow_mut().accepted += 1;
                    self.sockets.insert(caller, self.last);
                }
                io.send(from, handshake.accepted(self.sockets[&caller]).bytes());
            }
            other => panic!("{other} is nothing for an origin"),
        }
    }
}

/// Somebody who has overheard everything but the cookies.
pub struct Forger {
    /// Where the hub is.
    pub hub: SocketAddr,
    /// So many more attempts.
    pub left: u32,
    /// Between two of them.
    pub pause: Duration,
}

impl Peer for Forger {
    fn start(&mut self, io: &mut Io<'_>) {
        io.wake(self.pause, 0);
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        let socket = io.dice.range(1..=60) as u32;
        let bytes = match io.dice.range(0..=4) {
            0 => Handshake::conclusion(socket, io.dice.range(0..=99) as u32, b"live/s1").bytes(),
            1 => wire::data(socket, 0, 0),
            2 => wire::shutdown(socket),
            3 => {
                let whole = Handshake::conclusion(socket, 1, b"live/s1").bytes();
                whole[..io.dice.size(0..=whole.len())].to_vec()
            }
            _ => {
                let length = io.dice.size(0..=100);
                io.dice.bytes(length)
            }
        };
        io.send(self.hub, bytes);
        self.left -= 1;
        if self.left > 0 {
            io.wake(self.pause, 0);
        }
    }

    fn datagram(&mut self, _io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        assert_eq!(from, self.hub);
        panic!("a forger gets {bytes:?}");
    }
}
