//! The simulated network: the event queue, connections, datagrams, and the peers that stand in it. Knows no machine.

use super::dice::Dice;
use super::peer::{Deed, End, Io, Peer};
use super::pipe::Pipe;
use super::weather::{Fate, Weather};
use bytes::{Bytes, BytesMut};
use srs_proxy_core::machine::{Leg, OpenError, Ticket};
use srs_proxy_core::query::Answer;
use srs_proxy_core::time::{Duration, Time};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;

/// The longest the driver takes to look at a socket that is ready.
const DRIVER_TURN: Duration = Duration::from_micros(200);

/// What happens to the two directions of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub struct Fates {
    /// After this many bytes from the peer.
    pub from_peer: Option<(u64, Fate)>,
    /// After this many bytes to the peer.
    pub to_peer: Option<(u64, Fate)>,
}

/// What is found at an address.
pub enum Host {
    /// A TCP server: this makes the peer of each connection, counted from 0.
    Serves(Box<dyn FnMut(usize) -> Box<dyn Peer>>, Fates),
    /// Connections are refused.
    Refuses,
    /// Connections are never answered.
    Silent,
    /// This host has no descriptors left for it.
    Exhausted,
    /// One peer that takes datagrams from all.
    Datagrams(Box<dyn Peer>),
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Segments for the driver.
    ArriveIn(usize),
    /// Segments for the peer.
    ArriveOut(usize),
    /// The driver looks at a connection.
    Turn(usize),
    /// The peer may write on.
    PeerTurn(usize),
    PeerTimer(usize, u32),
    /// What was asked for under this number is there.
    Opened(Opening),
    OpenFailed(Opening, OpenError),
    /// An answer for this session.
    Answer(u32, Ticket, Answer),
    /// A file that is being sent.
    FileTurn(usize),
    Tick,
    Drain,
    Stop,
    /// A closed connection had delivered so much when last looked at.
    Linger(usize, u64),
    Datagram {
        to: SocketAddr,
        from: SocketAddr,
        bytes: Bytes,
    },
}

/// A leg that was asked for; the number tells it from legs of other sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opening(pub(crate) Leg, pub(crate) u64);

struct Entry(Time, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A direction that the driver moves by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    pub(crate) to: Leg,
    /// So many bytes are to come; at 0 the machine is about to be told.
    pub(crate) left: Option<u64>,
}

/// A TCP connection, with what the driver and the peer hold for it.
pub(crate) struct Conn {
    pub(crate) leg: Leg,
    /// The server it leads to; nothing for one that a client opened.
    pub(crate) server: Option<SocketAddr>,
    /// The machine still has it.
    pub(crate) owned: bool,
    /// It is kept for another session, since then.
    pub(crate) pooled: Option<Time>,
    pub(crate) inward: Pipe,
    pub(crate) outward: Pipe,
    pub(crate) broken: bool,
    pub(crate) dead: bool,
    // The driver's side.
    pub(crate) kept: Bytes,
    pub(crate) received: Vec<u8>,
    pub(crate) paused: bool,
    pub(crate) splice: Option<Splice>,
    pub(crate) feeds: BTreeSet<Leg>,
    pub(crate) queue: BytesMut,
    pub(crate) above_high_water: bool,
    pub(crate) eof_told: bool,
    /// The machine knows that the peer sends no more.
    pub(crate) hang_up_told: bool,
    turn_due: bool,
    // The peer's side.
    peer: usize,
    unsent: BytesMut,
    peer_closes: bool,
    peer_reads: bool,
    /// The peer has seen the end.
    pub(crate) peer_told: bool,
    // The ledger: what the machine sent and the peer has not seen.
    expected: BytesMut,
    pub(crate) delivered: u64,
    pub(crate) excused: bool,
}

impl Conn {
    /// All of a bounded splice has been moved, and the machine is about to be told.
    pub(crate) fn is_splice_done(&self) -> bool {
        self.splice.is_some_and(|splice| splice.left == Some(0))
    }

    /// The peer has all that was sent to it, or will never have it.
    pub(crate) fn is_delivered(&self) -> bool {
        self.excused || self.expected.is_empty()
    }
}

enum Place {
    Tcp(usize),
    Udp(SocketAddr),
}

struct PeerSlot {
    script: Option<Box<dyn Peer>>,
    place: Place,
    dice: Dice,
}

/// The network of one world.
pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) weather: Weather,
    pub(crate) dice: Dice,
    pub(crate) conns: Vec<Conn>,
    /// Datagrams that came for a socket that is gone.
    pub(crate) stray: u64,
    events: BinaryHeap<Reverse<Entry>>,
    count: u64,
    peers: Vec<PeerSlot>,
    hosts: BTreeMap<SocketAddr, (Host, usize)>,
    datagram_peers: BTreeMap<SocketAddr, usize>,
}

impl Net {
    pub(crate) fn new(weather: Weather, dice: Dice) -> Self {
        Self {
            now: Time::ZERO,
            weather,
            dice,
            conns: Vec::new(),
            stray: 0,
            events: BinaryHeap::new(),
            count: 0,
            peers: Vec::new(),
            hosts: BTreeMap::new(),
            datagram_peers: BTreeMap::new(),
        }
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Entry(at.max(self.now), self.count, event)));
    }

    /// The next event; time moves on to it.
    pub(crate) fn next(&mut self, limit: Time) -> Option<Event> {
        if self.events.peek()?.0.0 > limit {
            return None;
        }
        let Reverse(Entry(at, _, event)) = self.events.pop()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn host(&mut self, at: SocketAddr, host: Host) {
        match host {
            Host::Datagrams(peer) => self.datagram_peer(at, peer),
            host => {
                self.hosts.insert(at, (host, 0));
            }
        }
    }

    pub(crate) fn datagram_peer(&mut self, at: SocketAddr, peer: Box<dyn Peer>) {
        let peer = self.peer(peer, Place::Udp(at));
        self.datagram_peers.insert(at, peer);
        self.call(peer, |peer, io| peer.start(io));
    }

    fn peer(&mut self, script: Box<dyn Peer>, place: Place) -> usize {
        let dice = self.dice.fork();
        self.peers.push(PeerSlot { script: Some(script), place, dice });
        self.peers.len() - 1
    }

    /// A connection that stands, with its peer.
    pub(crate) fn connect(
        &mut self,
        leg: Leg,
        server: Option<SocketAddr>,
        peer: Box<dyn Peer>,
        fates: Fates,
    ) -> usize {
        let conn = self.conns.len();
        let peer = self.peer(peer, Place::Tcp(conn));
        self.conns.push(Conn {
            leg,
            server,
            owned: true,
            pooled: None,
            inward: Pipe::new(fates.from_peer),
            outward: Pipe::new(fates.to_peer),
            broken: false,
            dead: false,
            kept: Bytes::new(),
            received: Vec::new(),
            paused: false,
            splice: None,
            feeds: BTreeSet::new(),
            queue: BytesMut::new(),
            above_high_water: false,
            eof_told: false,
            hang_up_told: false,
            turn_due: false,
            peer,
            unsent: BytesMut::new(),
            peer_closes: false,
            peer_reads: true,
            peer_told: false,
            expected: BytesMut::new(),
            delivered: 0,
            excused: false,
        });
        self.call(peer, |peer, io| peer.start(io));
        conn
    }

    /// Begins to open a TCP leg.
    pub(crate) fn open(&mut self, opening: Opening, to: SocketAddr) {
        let delay = self.dice.range(0..=2 * self.weather.delay.as_micros() as u64);
        let at = self.now + Duration::from_micros(delay);
        match self.hosts.get(&to) {
            Some((Host::Serves(..), _)) => self.at(at, Event::Opened(opening)),
            Some((Host::Silent, _)) => {}
            Some((Host::Exhausted, _)) => self.at(self.now, Event::OpenFailed(opening, OpenError::Exhausted)),
            _ => self.at(at, Event::OpenFailed(opening, OpenError::Unreachable)),
        }
    }

    /// Takes a new connection at the server `to`.
    pub(crate) fn accept(&mut self, leg: Leg, to: SocketAddr) -> Option<usize> {
        let (Host::Serves(make, fates), count) = self.hosts.get_mut(&to)? else { return None };
        let (peer, fates) = (make(*count), *fates);
        *count += 1;
        Some(self.connect(leg, Some(to), peer, fates))
    }

    /// Keeps a connection, if nothing is on its way that anybody knows of.
    pub(crate) fn keep(&mut self, conn: usize) -> bool {
        let c = &mut self.conns[conn];
        let clean = c.kept.is_empty() && c.inward.unread() == 0 && c.queue.is_empty();
        if !clean || c.broken || c.eof_told || c.inward.ended() || c.server.is_none() {
            return false;
        }
        c.pooled = Some(self.now);
        c.feeds.clear();
        c.paused = false;
        true
    }

    /// Takes out the connection to this server that was kept last.
    pub(crate) fn kept(&mut self, to: SocketAddr) -> Option<usize> {
        let candidates = (0..self.conns.len()).filter(|conn| self.conns[*conn].server == Some(to));
        let conn = candidates.max_by_key(|conn| self.conns[*conn].pooled)?;
        let since = self.conns[conn].pooled.take()?;
        if self.now.since(since) > self.weather.keep {
            self.part(conn);
            return None;
        }
        Some(conn)
    }

    /// The driver is to deliver what is queued, to end the connection, and to wait a while for the peer's end.
    pub(crate) fn part(&mut self, conn: usize) {
        let delivered = self.conns[conn].delivered;
        self.at(self.now + self.weather.linger, Event::Linger(conn, delivered));
        self.turn(conn);
    }

    /// Whether a kept connection's peer has got all that was sent to it, and is between messages.
    pub(crate) fn is_clean(&self, conn: usize) -> bool {
        let c = &self.conns[conn];
        let script = self.peers[c.peer].script.as_ref();
        !c.expected.is_empty() || c.excused || script.is_none_or(|script| script.between_messages())
    }

    /// The driver shall look at a connection soon.
    pub(crate) fn turn(&mut self, conn: usize) {
        if !self.conns[conn].turn_due {
            self.conns[conn].turn_due = true;
            let delay = self.dice.range(0..=DRIVER_TURN.as_micros() as u64);
            self.at(self.now + Duration::from_micros(delay), Event::Turn(conn));
        }
    }

    /// The driver looks at it now.
    pub(crate) fn turn_taken(&mut self, conn: usize) {
        self.conns[conn].turn_due = false;
    }

    /// The machine sends bytes: into the driver's queue, and into the ledger.
    pub(crate) fn enqueue(&mut self, conn: usize, bytes: &[u8]) {
        let c = &mut self.conns[conn];
        if c.broken || bytes.is_empty() {
            return;
        }
        c.queue.extend_from_slice(bytes);
        c.expected.extend_from_slice(bytes);
        c.above_high_water |= c.queue.len() > self.weather.high_water;
        self.turn(conn);
    }

    /// The driver sends from its queue what the network takes.
    pub(crate) fn flush(&mut self, conn: usize) {
        let c = &mut self.conns[conn];
        let (taken, arrivals) = c.outward.send(self.now, &self.weather, &mut self.dice, &c.queue);
        let _ = c.queue.split_to(taken);
        if c.queue.len() <= self.weather.high_water / 2 {
            c.above_high_water = false;
        }
        for at in arrivals {
            self.at(at, Event::ArriveOut(conn));
        }
    }

    /// The driver ends its direction, behind what was sent.
    pub(crate) fn finish(&mut self, conn: usize) {
        let at = self.conns[conn].outward.finish(self.now, &self.weather, &mut self.dice);
        self.at(at, Event::ArriveOut(conn));
    }

    /// The driver reads.
    pub(crate) fn read(&mut self, conn: usize, max: usize) -> Bytes {
        let bytes = self.conns[conn].inward.read(max);
        if self.conns[conn].owned {
            self.conns[conn].received.extend_from_slice(&bytes);
        }
        if !bytes.is_empty() && (!self.conns[conn].unsent.is_empty() || self.conns[conn].peer_closes) {
            let delay = self.dice.range(0..=self.weather.delay.as_micros() as u64);
            self.at(self.now + Duration::from_micros(delay), Event::PeerTurn(conn));
        }
        bytes
    }

    /// The connection breaks; its peer is told, unless it did it.
    pub(crate) fn reset(&mut self, conn: usize, by_peer: bool) {
        let keep = self.dice.chance(500);
        let c = &mut self.conns[conn];
        if c.broken {
            return;
        }
        c.broken = true;
        c.excused |= !c.expected.is_empty();
        c.inward.break_off(keep);
        c.outward.break_off(false);
        c.queue.clear();
        c.unsent.clear();
        c.above_high_water = false;
        c.dead |= !c.owned;
        c.pooled = None;
        let (peer, told) = (c.peer, c.peer_told || by_peer);
        c.peer_told = true;
        self.turn(conn);
        if !told {
            self.call(peer, |peer, io| peer.end(io, End::Reset));
        }
    }

    /// Segments for the driver have arrived.
    pub(crate) fn arrive_in(&mut self, conn: usize) {
        match self.conns[conn].inward.arrive(self.now) {
            Some(Fate::Reset) => self.reset(conn, false),
            _ => self.turn(conn),
        }
    }

    /// Segments for the peer have arrived: it reads them, unless it does not want to.
    pub(crate) fn arrive_out(&mut self, conn: usize) {
        let fate = self.conns[conn].outward.arrive(self.now);
        let c = &mut self.conns[conn];
        match fate {
            Some(Fate::Freeze | Fate::End) => c.excused = true,
            Some(Fate::Reset) => return self.reset(conn, false),
            None => {}
        }
        if !c.peer_reads {
            return;
        }
        let peer = c.peer;
        let bytes = c.outward.read(usize::MAX);
        if !bytes.is_empty() {
            assert!(c.expected.starts_with(&bytes), "{:?}: the peer got other bytes than were sent", c.leg);
            let _ = c.expected.split_to(bytes.len());
            c.delivered += bytes.len() as u64;
            if !c.queue.is_empty() {
                self.turn(conn);
            }
            self.call(peer, |peer, io| peer.bytes(io, &bytes));
        }
        let c = &mut self.conns[conn];
        if c.outward.ended() && !c.peer_told {
            c.peer_told = true;
            self.turn(conn);
            self.call(peer, |peer, io| peer.end(io, End::Fin));
        }
    }

    /// The peer's writes go on; then its end follows, if it wants to end.
    pub(crate) fn peer_turn(&mut self, conn: usize) {
        let c = &mut self.conns[conn];
        if c.broken {
            return;
        }
        let (taken, arrivals) = c.inward.send(self.now, &self.weather, &mut self.dice, &c.unsent);
        let _ = c.unsent.split_to(taken);
        for at in arrivals {
            self.at(at, Event::ArriveIn(conn));
        }
        let c = &mut self.conns[conn];
        if c.peer_closes && c.unsent.is_empty() && !c.inward.finished() {
            let at = c.inward.finish(self.now, &self.weather, &mut self.dice);
            self.at(at, Event::ArriveIn(conn));
        }
    }

    pub(crate) fn peer_timer(&mut self, peer: usize, tag: u32) {
        self.call(peer, |peer, io| peer.timer(io, tag));
    }

    /// A datagram sets out: it may be lost, doubled, overtaken.
    pub(crate) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let copies = 1 + u32::from(self.dice.chance(self.weather.loss));
        for _ in 0..copies {
            if !self.dice.chance(self.weather.loss) {
                let delay = self.dice.range(1..=self.weather.delay.as_micros() as u64);
                let at = self.now + Duration::from_micros(delay);
                self.at(at, Event::Datagram { to, from, bytes: bytes.clone() });
            }
        }
    }

    /// A datagram reaches a peer, if there is one.
    pub(crate) fn deliver(&mut self, to: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        match self.datagram_peers.get(&to) {
            Some(&peer) => self.call(peer, |peer, io| peer.datagram(io, from, bytes)),
            None => self.stray += 1,
        }
    }

    /// Bytes the machine sent on this connection that its peer should have seen by the end, and has not.
    pub(crate) fn missing(&self, conn: usize) -> usize {
        let c = &self.conns[conn];
        if c.excused { 0 } else { c.expected.len() }
    }

    fn call(&mut self, peer: usize, script: impl FnOnce(&mut dyn Peer, &mut Io<'_>)) {
        let slot = &mut self.peers[peer];
        let Some(mut body) = slot.script.take() else { return };
        let backlog = match slot.place {
            Place::Tcp(conn) => self.conns[conn].unsent.len(),
            Place::Udp(_) => 0,
        };
        let mut deeds = Vec::new();
        let mut io = Io { now: self.now, dice: &mut slot.dice, backlog, deeds: &mut deeds };
        script(&mut *body, &mut io);
        slot.script = Some(body);
        for deed in deeds {
            self.perform(peer, deed);
        }
    }

    fn perform(&mut self, peer: usize, deed: Deed) {
        match (&self.peers[peer].place, deed) {
            (_, Deed::Wake(after, tag)) => self.at(self.now + after, Event::PeerTimer(peer, tag)),
            (&Place::Udp(from), Deed::Send(to, bytes)) => self.send(from, to, &Bytes::from(bytes)),
            (&Place::Tcp(conn), deed) => {
                let c = &mut self.conns[conn];
                match deed {
                    Deed::Write(bytes) if !c.peer_closes => c.unsent.extend_from_slice(&bytes),
                    Deed::Close => c.peer_closes = true,
                    Deed::Reset => return self.reset(conn, true),
                    Deed::Read(reads) => {
                        c.peer_reads = reads;
                        return self.at(self.now, Event::ArriveOut(conn));
                    }
                    // After its end a peer writes in vain.
                    _ => return,
                }
                self.peer_turn(conn);
            }
            (Place::Udp(_), deed) => panic!("a datagram peer cannot {deed:?}"),
        }
    }
}
