//! Who stands around a simulated SRT hub: callers that send again what is not answered, origins that accept, reject, end
//! connections and die, and forgers without the right cookie. Each asserts that it gets nothing that is another's.

use crate::sim::{Io, Peer};
use crate::srt::wire::{self, CONCLUSION, Handshake, INDUCTION};
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// How often a caller sends a handshake again.
const AGAIN: Duration = Duration::from_millis(250);

/// How long it waits for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

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
    /// Connections that the origin has ended.
    pub ended: u64,
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
}

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
            let begun = *socket.begun.get_or_insert(io.now);
            if io.now.since(begun) >= PATIENCE {
                socket.over = true;
                self.book.borrow_mut().forsaken += 1;
                return None;
            }
            let handshake = match socket.cookie {
                None => Handshake::induction(own),
                Some(cookie) => Handshake::conclusion(own, cookie, socket.stream.as_bytes()),
            };
            io.send(self.hub, handshake.bytes());
            return Some(AGAIN);
        };
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
                0x8005_0000 => socket.over = true,
                _ => {
                    assert_eq!(payload, to, "what it sent itself comes back, and nothing else");
                    self.book.borrow_mut().echoed += 1;
                }
            }
            return;
        };
        let socket = self.sockets.get_mut(&handshake.to).expect("one of its own sockets");
        assert_eq!(handshake.version, 5);
        let is_waiting = socket.theirs.is_none() && !socket.over;
        match handshake.kind {
            INDUCTION => {
                assert_eq!((handshake.field, handshake.from), (0x4a17, handshake.to));
                // Another answer, to an induction that was sent again, is as good.
                if socket.cookie.replace(handshake.cookie).is_none() && is_waiting {
                    let stream = socket.stream.as_bytes();
                    io.send(self.hub, Handshake::conclusion(handshake.to, handshake.cookie, stream).bytes());
                }
            }
            CONCLUSION => {
                let told = *socket.theirs.get_or_insert(handshake.from);
                assert_eq!(told, handshake.from, "one connection is enough");
                self.book.borrow_mut().connected += u64::from(is_waiting);
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
    /// How many ids it uses, so that origins choose the same.
    ids: u32,
    last: u32,
    /// It says no, or ends a connection, per thousand.
    moods: u64,
    dies: Option<Time>,
}

impl Origin {
    /// An origin whose ids are the same as every other's.
    pub fn new(book: &Shared, moods: u64, dies: Option<Time>) -> Self {
        let (sockets, refused) = (BTreeMap::new(), BTreeSet::new());
        Self { book: Rc::clone(book), sockets, refused, ids: 1000, last: 0, moods, dies }
    }
}

impl Peer for Origin {
    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        if self.dies.is_some_and(|dies| dies <= io.now) {
            return;
        }
        let Some(handshake) = Handshake::read(bytes) else {
            let (first, to, own) = wire::read(bytes).expect("a packet");
            let known = self.sockets.get(&(from, own)).copied();
            if first == 0x8005_0000 {
                self.sockets.retain(|(address, _), theirs| *address != from || *theirs != to);
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
                    self.last = self.last % self.ids + 1;
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
