//! Who stands around a simulated WebRTC hub: clients that move, restart and vanish, an origin that is ICE-lite, and
//! forgers who know every session's name but no password. Each asserts that it gets nothing that is another's.

use super::wire::{self, ERROR, REQUEST, SUCCESS};
use crate::sim::{Io, Peer};
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

const MS: u64 = 1000;

/// What signalling has agreed on, and what came of it.
#[derive(Default, Debug)]
pub struct Book {
    /// The sessions' passwords; a session's number is its place.
    sessions: Vec<u64>,
    /// Checks granted, as clients heard.
    pub granted: u64,
    /// Media that came back to their client.
    pub echoed: u64,
    /// Media that should have come back and did not, where nothing is lost.
    pub sent: u64,
    /// Clients that were granted another address in the same session.
    pub moved: u64,
    /// Clients that were granted another session at the same address.
    pub restarted: u64,
    /// Checks that were refused.
    pub refused: u64,
}

/// Everybody has a look at it.
pub type Shared = Rc<RefCell<Book>>;

impl Book {
    /// A new session; its number.
    fn store(&mut self, password: u64) -> u32 {
        self.sessions.push(password);
        self.sessions.len() as u32 - 1
    }

    /// The USERNAME of a session.
    pub fn name(session: u32) -> String {
        format!("s{session}:c{session}")
    }

    /// The session of a USERNAME, if there is one.
    pub fn find(&self, name: &str) -> Option<u32> {
        let session: u32 = name.split_once(':')?.0.strip_prefix('s')?.parse().ok()?;
        (Self::name(session) == name && (session as usize) < self.sessions.len()).then_some(session)
    }
}

/// What a client intends to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Media it sends.
    pub media: u32,
    /// Between two of them, at most.
    pub pause: Duration,
    /// Moves to another of its addresses, per thousand media.
    pub moves: u64,
    /// Restarts with another session, per thousand media.
    pub restarts: u64,
    /// It begins within this time.
    pub begin: Duration,
}

/// One client, with all its addresses.
struct Client {
    book: Shared,
    hub: SocketAddr,
    plan: Plan,
    addresses: usize,
    /// Its sessions, the present one last.
    sessions: Vec<u32>,
    /// The address it uses now.
    present: usize,
    /// Whether the present session was granted a check there.
    granted: bool,
    /// The address of which the session was granted a check last, and the session.
    last_granted: Option<(usize, u32)>,
    left: u32,
    not_before: Time,
    next_check: Time,
}

/// One address of a client: a peer of the world.
pub struct Socket {
    client: Rc<RefCell<Client>>,
    index: usize,
    /// Transactions that were asked from here, and in which session.
    asked: BTreeMap<[u8; 12], u32>,
}

/// A client with so many addresses; a peer for each.
pub fn client(book: &Shared, hub: SocketAddr, plan: Plan, addresses: usize) -> Vec<Socket> {
    let client = Rc::new(RefCell::new(Client {
        book: Rc::clone(book),
        hub,
        plan,
        addresses,
        sessions: Vec::new(),
        present: 0,
        granted: false,
        last_granted: None,
        left: plan.media,
        not_before: Time::ZERO,
        next_check: Time::ZERO,
    }));
    let socket = |index| Socket { client: Rc::clone(&client), index, asked: BTreeMap::new() };
    (0..addresses).map(socket).collect()
}

impl Client {
    fn begin_session(&mut self, io: &mut Io<'_>) {
        let password = io.dice.range(1..=u64::MAX);
        self.sessions.push(self.book.borrow_mut().store(password));
        self.granted = false;
        self.next_check = io.now;
    }

    fn session(&self) -> u32 {
        *self.sessions.last().expect("a session")
    }
}

impl Socket {
    /// What it does next, and after which time again; `None` if it is done.
    fn act(&mut self, io: &mut Io<'_>) -> Option<Duration> {
        let mut client = self.client.borrow_mut();
        if client.left == 0 {
            return None;
        }
        let pause = Duration::from_micros(io.dice.range(MS..=client.plan.pause.as_micros() as u64));
        if client.present != self.index || io.now < client.not_before {
            return Some(pause);
        }
        if client.sessions.is_empty() {
            client.begin_session(io);
        }
        if client.next_check <= io.now {
            let transaction = io.dice.bytes(12).try_into().expect("12 bytes");
            let session = client.session();
            self.asked.insert(transaction, session);
            let password = client.book.borrow().sessions[session as usize];
            io.send(client.hub, wire::check(transaction, &Book::name(session), password));
            client.next_check = io.now + Duration::from_millis(if client.granted { 500 } else { 50 });
            // A client whose checks are never granted gives up, too.
            client.left -= u32::from(!client.granted && io.dice.chance(100));
        }
        if client.granted {
            let packet = if io.dice.chance(100) { wire::dtls } else { wire::media };
            client.left -= 1;
            client.book.borrow_mut().sent += 1;
            io.send(client.hub, packet(client.session(), client.left));
            if io.dice.chance(client.plan.restarts) {
                // Late enough that nothing of the old session is under way.
                client.not_before = io.now + Duration::from_secs(1);
                client.begin_session(io);
            } else if io.dice.chance(client.plan.moves) {
                client.present = (client.present + 1) % client.addresses;
                client.granted = false;
                client.next_check = io.now;
            }
        }
        Some(pause)
    }
}

impl Peer for Socket {
    fn start(&mut self, io: &mut Io<'_>) {
        let begin = self.client.borrow().plan.begin.as_micros() as u64;
        let wait = Duration::from_micros(io.dice.range(0..=begin));
        io.wake(wait, 0);
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        if let Some(pause) = self.act(io) {
            io.wake(pause, 0);
        }
    }

    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        let mut client = self.client.borrow_mut();
        assert_eq!(from, client.hub, "only the hub speaks with a client");
        if let Some((session, _)) = wire::owner(bytes) {
            assert!(client.sessions.contains(&session), "session {session} is another client's");
            client.book.borrow_mut().echoed += 1;
            return;
        }
        let stun = wire::read(bytes).expect("nothing but STUN");
        let session = *self.asked.get(&stun.transaction).expect("an answer to another's check");
        assert_eq!(stun.kind, SUCCESS, "who has the password is not refused");
        let is_present = client.present == self.index && session == client.session();
        if is_present && !client.granted && io.now >= client.not_before {
            client.granted = true;
            client.book.borrow_mut().granted += 1;
            match client.last_granted.replace((self.index, session)) {
                Some((_, before)) if before != session => client.book.borrow_mut().restarted += 1,
                Some((before, _)) if before != self.index => client.book.borrow_mut().moved += 1,
                _ => {}
            }
        }
    }
}

/// Grants the checks of who knows the password, and sends all media back.
pub struct Origin {
    book: Shared,
    /// Whose each of the hub's sockets is.
    owners: BTreeMap<SocketAddr, u32>,
    late: Vec<(SocketAddr, Vec<u8>)>,
    is_prompt: bool,
    dies: Option<Time>,
}

impl Origin {
    /// An origin that sends media back at once and once, or some of it a second time and late; until it dies.
    pub fn new(book: &Shared, is_prompt: bool, dies: Option<Time>) -> Self {
        Self { book: Rc::clone(book), owners: BTreeMap::new(), late: Vec::new(), is_prompt, dies }
    }

    fn is_dead(&self, now: Time) -> bool {
        self.dies.is_some_and(|at| at <= now)
    }
}

impl Peer for Origin {
    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if !self.is_dead(io.now) {
            let (to, bytes) = &self.late[tag as usize];
            io.send(*to, bytes.clone());
        }
    }

    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        if self.is_dead(io.now) {
            return;
        }
        if let Some((session, _)) = wire::owner(bytes) {
            assert_eq!(self.owners.get(&from), Some(&session), "media of another session");
            io.send(from, bytes);
            // Some is sent again when the session may be gone, or its client in another one.
            if !self.is_prompt && io.dice.chance(20) {
                let wait = io.dice.range(0..=40_000 * MS);
                io.wake(Duration::from_micros(wait), self.late.len() as u32);
                self.late.push((from, bytes.to_vec()));
            }
            return;
        }
        let check = wire::read(bytes).expect("STUN, or media");
        assert_eq!(check.kind, REQUEST);
        let name = String::from_utf8(check.username.clone().expect("a name")).expect("text");
        let mut book = self.book.borrow_mut();
        let session = book.find(&name).expect("a session that was signalled");
        let owner = *self.owners.entry(from).or_insert(session);
        assert_eq!(owner, session, "one socket, two sessions");
        if wire::is_genuine(&check, book.sessions[session as usize]) {
            io.send(from, wire::success(check.transaction));
        } else {
            book.refused += 1;
            io.send(from, wire::refusal(check.transaction));
        }
    }
}

/// Checks in everybody's name, with names of its own, with media and with noise.
pub struct Forger {
    /// Where signalling was overheard.
    pub book: Shared,
    /// Whom it attacks.
    pub hub: SocketAddr,
    /// How many datagrams it sends.
    pub left: u32,
    /// Between two of them, at most.
    pub pause: Duration,
    /// Transactions it has asked in others' names.
    pub asked: BTreeSet<[u8; 12]>,
}

impl Peer for Forger {
    fn start(&mut self, io: &mut Io<'_>) {
        io.wake(self.pause, 0);
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        let known = self.book.borrow().sessions.len() as u64;
        let session = io.dice.range(0..=known) as u32;
        let transaction: [u8; 12] = io.dice.bytes(12).try_into().expect("12 bytes");
        let bytes = match io.dice.range(0..=9) {
            0..=4 => {
                self.asked.insert(transaction);
                wire::check(transaction, &Book::name(session), 0)
            }
            5 => wire::check(transaction, &format!("x{}:y", io.dice.range(0..=u64::MAX)), 0),
            6 => wire::media(session, 0),
            7 => wire::success(transaction),
            8 => {
                let whole = wire::check(transaction, &Book::name(session), 0);
                whole[..io.dice.size(1..=whole.len() - 1)].to_vec()
            }
            _ => {
                let length = io.dice.size(1..=100);
                io.dice.bytes(length)
            }
        };
        io.send(self.hub, bytes);
        self.left -= 1;
        if self.left > 0 {
            let wait = io.dice.range(MS..=self.pause.as_micros() as u64);
            io.wake(Duration::from_micros(wait), 0);
        }
    }

    fn datagram(&mut self, _io: &mut Io<'_>, _from: SocketAddr, bytes: &[u8]) {
        let stun = wire::read(bytes).expect("nobody's media come here");
        assert_eq!(stun.kind, ERROR, "a forged check is refused");
        assert!(self.asked.contains(&stun.transaction), "an answer to another's check");
    }
}
